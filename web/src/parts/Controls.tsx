// How answers are made: the system prompt, and how tokens are drawn.

import type { Settings } from "../api";
import { info, model, settings } from "../state";
import { set } from "../talk";
import { say, type Word } from "../words";
import { IconButton } from "./IconButton";

interface NumberField {
    name: "temperature" | "top_p" | "top_k" | "max_tokens" | "seed";
    label: Word;
    hint?: Word;
    min: number;
    max: number;
    step: number;
    usual: string;
}

function fields(): NumberField[] {
    const most = info.value?.max_tokens ?? 0;
    return [
        { name: "temperature", label: "temperature", hint: "temperatureHint", min: 0, max: 2, step: 0.1, usual: "1" },
        { name: "top_p", label: "topP", hint: "topPHint", min: 0.01, max: 1, step: 0.01, usual: "1" },
        { name: "top_k", label: "topK", hint: "topKHint", min: 1, max: 1000, step: 1, usual: "–" },
        { name: "max_tokens", label: "maxTokens", min: 1, max: 1_000_000, step: 1, usual: String(most) },
        { name: "seed", label: "seed", hint: "seedHint", min: 0, max: 2 ** 53 - 1, step: 1, usual: "–" },
    ];
}

function without(settings: Settings, name: keyof Settings): Settings {
    const { [name]: _, ...rest } = settings;
    return rest;
}

export function Controls({ close }: { close: () => void }) {
    const change = (name: keyof Settings, value: string | number | undefined) =>
        set(value === undefined ? without(settings.value, name) : { ...settings.value, [name]: value });
    return (
        <aside
            class="controls"
            aria-label={say("settings")}
            onKeyDown={(event) => event.key === "Escape" && close()}
        >
            <header>
                <h2>{say("settings")}</h2>
                <IconButton icon="close" label={say("close")} onClick={close} />
            </header>
            {model.value?.task === "chat" && (
                <label class="field">
                    <span>{say("system")}</span>
                    <textarea
                        rows={5}
                        placeholder={say("systemHint")}
                        value={settings.value.system ?? ""}
                        onChange={(event) => change("system", event.currentTarget.value || undefined)}
                    />
                </label>
            )}
            {fields().map(({ name, label, hint, usual, ...range }) => (
                <label class="field" key={name}>
                    <span>{say(label)}</span>
                    <input
                        type="number"
                        {...range}
                        placeholder={usual === "–" ? usual : `${usual} (${say("usual")})`}
                        value={settings.value[name] ?? ""}
                        onChange={({ currentTarget: field }) => {
                            if (!field.reportValidity()) return;
                            change(name, field.value === "" ? undefined : field.valueAsNumber);
                        }}
                    />
                    {hint && <small class="hint">{say(hint)}</small>}
                </label>
            ))}
        </aside>
    );
}
