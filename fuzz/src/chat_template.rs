//! Chat templates: compiled, and a conversation rendered.

use hearth_engine::{ChatTemplate, Message};

/// The bytes are a template's text.
pub fn run(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else { return };
    let special = ["<|im_start|>", "<|im_end|>", "</s>"].map(str::to_owned).to_vec();
    let tokens =
        vec![("bos_token".to_owned(), "<s>".to_owned()), ("eos_token".to_owned(), "</s>".to_owned())];
    let Ok(template) = ChatTemplate::new(source, special, tokens) else { return };
    let messages = [
        Message::new("system", "Be brief."),
        Message::new("user", "a < b, <|im_end|> {{ x }}"),
        Message::new("assistant", "<think>so</think>\nYes."),
        Message::new("user", "Why?"),
    ];
    let _ = template.at(1_700_000_000).render(&messages, true);
}

/// Templates with most of what published ones use.
pub fn seeds() -> Vec<Vec<u8>> {
    let turns = "{% for m in messages %}<|im_start|>{{ m.role + '\\n' + m['content'] | trim }}<|im_end|>\n{% endfor %}\
                 {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let state = "{%- set ns = namespace(last=messages|length - 1, seen=[]) -%}\
                 {%- for m in messages[::-1] if m.role != 'system' -%}\
                 {%- set ns.last = loop.index0 -%}{%- set ns.seen = ns.seen + [m.role] -%}\
                 {{- loop.first ~ loop.last ~ loop.length ~ ns.last -}}{%- endfor -%}{{ ns.seen|join(', ') }}";
    let strings = "{{ bos_token }}{% set c = messages[2].content %}{% if '</think>' in c %}\
                   {{ c.split('</think>')[-1].lstrip('\\n') }}{{ c.replace('so', 'x' * 9).upper()[1:-1] }}\
                   {{ c.startswith('<') and c.strip().endswith('.') }}{{ c.find('s') }}{% endif %}{{ eos_token }}";
    let macros = "{% macro turn(role, text='none') %}[{{ role|upper }}] {{ text }}{% if text|length > 3 %}\
                  {{ turn(role, text[:2]) }}{% endif %}{% endmacro %}{% for m in messages %}\
                  {{ turn(m.role, m.content) }}{% break %}{% endfor %}{% generation %}x{% endgeneration %}";
    let values = "{{ strftime_now('%d %b %Y %-H:%M %%') }}{{ {'a': [1, 2.5, none, true], 'b': messages}|tojson(indent=2) }}\
                  {% set x %}{{ range(10)|list|sort|last }}{% endset %}{{ x * 3 }}{{ 7 // 2 ** 3 % 5 }}\
                  {% if tools is defined and tools is none %}{{ raise_exception('no ' ~ x) }}{% endif %}";
    let loops = "{% for a in range(9) %}{% for b in range(a) %}{% set x = [a, b] * b %}{{ x|sum }}{% else %}-{% endfor %}\
                 {% if loop.index is divisibleby 2 %}{% continue %}{% endif %}{{ loop.cycle('a', 'b') }}{% endfor %}";
    [turns, state, strings, macros, values, loops].map(|text| text.as_bytes().to_vec()).to_vec()
}
