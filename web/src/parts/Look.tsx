// Inside an answer: each token, how likely it was, and what else could have stood there.

import { useEffect, useId, useRef, useState } from "preact/hooks";
import type { Token } from "../api";
import { say } from "../words";

/** Shades, from a token that could hardly have been another to one that was drawn against the odds. */
const SHADES = [0.9, 0.6, 0.3, 0.1];

function shade(logprob: number): number {
    const at = SHADES.findIndex((least) => Math.exp(logprob) >= least);
    return at < 0 ? SHADES.length : at;
}

function percent(logprob: number): string {
    const share = Math.exp(logprob) * 100;
    return `${share >= 10 ? share.toFixed(0) : share >= 0.1 ? share.toFixed(1) : "<0.1"}%`;
}

/** A token that is only a part of a character comes as its bytes. */
function words(text: string): string {
    return text.replace(/^bytes:/, "");
}

/** Blanks would not be seen. */
function visible(text: string): string {
    return words(text).replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/^ | $/g, "␣") || "∅";
}

export function Look({ tokens }: { tokens: Token[] }) {
    const [chosen, setChosen] = useState(0);
    const list = useRef<HTMLDivElement>(null);
    const id = useId();
    const at = Math.min(chosen, tokens.length - 1);
    useEffect(() => list.current?.children[at]?.scrollIntoView({ block: "nearest" }), [at]);
    const move = (event: KeyboardEvent) => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        const to = step ? at + step : { Home: 0, End: tokens.length - 1 }[event.key];
        if (to === undefined) return;
        event.preventDefault();
        setChosen(Math.max(0, Math.min(tokens.length - 1, to)));
    };
    return (
        <div class="look">
            <p class="hint">{say("lookHint")}</p>
            <div
                ref={list}
                class="tokens"
                role="listbox"
                tabIndex={0}
                aria-label={say("look")}
                aria-activedescendant={`${id}-${at}`}
                onKeyDown={move}
            >
                {tokens.map(([text, logprob], i) => (
                    <span
                        key={i}
                        id={`${id}-${i}`}
                        role="option"
                        aria-selected={i === at}
                        class={`token shade-${shade(logprob)}`}
                        onClick={() => setChosen(i)}
                    >
                        {words(text)}
                    </span>
                ))}
            </div>
            {tokens[at] && <Others token={tokens[at]} />}
        </div>
    );
}

function Others({ token: [text, logprob, others] }: { token: Token }) {
    const isListed = others.some(([other]) => other === text);
    const all = isListed ? others : [...others, [text, logprob] as [string, number]];
    const rest = 1 - all.reduce((sum, [, logprob]) => sum + Math.exp(logprob), 0);
    return (
        <table class="others" aria-live="polite">
            <tbody>
                {all.map(([other, logprob]) => (
                    <Bar
                        key={other}
                        name={visible(other)}
                        note={other === text ? say("shown") : ""}
                        share={Math.exp(logprob)}
                        told={percent(logprob)}
                    />
                ))}
                {rest > 0.0005 && (
                    <Bar name={say("otherTokens")} note="" share={rest} told={percent(Math.log(rest))} />
                )}
            </tbody>
        </table>
    );
}

function Bar({ name, note, share, told }: { name: string; note: string; share: number; told: string }) {
    return (
        <tr class={note ? "shown" : undefined}>
            <th scope="row">{name}</th>
            <td class="bar">
                <svg viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">
                    <rect width={share * 100} height="1" />
                </svg>
            </td>
            <td class="number">{told}</td>
            <td class="hint">{note}</td>
        </tr>
    );
}
