// The page as a whole.

import { useEffect, useRef, useState } from "preact/hooks";
import { setKey } from "../api";
import { info, loadInfo, loadLines, model, needsKey, place, spoken, writers } from "../state";
import { answering, choose } from "../talk";
import { say } from "../words";
import { Chat } from "./Chat";
import { Controls } from "./Controls";
import { IconButton } from "./IconButton";
import { Runs } from "./Runs";
import { Sidebar } from "./Sidebar";

export function App() {
    const [hasMenu, setMenu] = useState(false);
    const [hasControls, setControls] = useState(false);
    useEffect(() => {
        const stop = (event: KeyboardEvent) => {
            if (event.key !== "Escape") return;
            answering.value?.stop();
            setMenu(false);
        };
        addEventListener("keydown", stop);
        return () => removeEventListener("keydown", stop);
    }, []);
    const { at, id } = place.value;
    if (needsKey.value) return <KeyForm />;
    return (
        <div class={hasMenu ? "page with-menu" : "page"}>
            <Sidebar leave={() => setMenu(false)} />
            {hasMenu && <div class="veil" onClick={() => setMenu(false)} />}
            <div class="middle">
                <header class="top">
                    <IconButton icon="menu" class="menu" label={say("menu")} onClick={() => setMenu(!hasMenu)} />
                    {at === "chat" && <ModelChoice />}
                    {at === "chat" && (
                        <IconButton
                            icon="settings"
                            label={say("settings")}
                            pressed={hasControls}
                            onClick={() => setControls(!hasControls)}
                        />
                    )}
                </header>
                {at === "runs" ? <Runs id={id} /> : <Chat />}
            </div>
            {at === "chat" && hasControls && <Controls close={() => setControls(false)} />}
            <p class="unseen" aria-live="polite">
                {spoken.value}
            </p>
        </div>
    );
}

function ModelChoice() {
    if (!info.value) return null;
    return (
        <select
            class="model"
            aria-label={say("model")}
            value={model.value?.id ?? ""}
            disabled={!writers.value.length}
            onChange={(event) => choose(event.currentTarget.value)}
        >
            {writers.value.map(({ id }) => (
                <option key={id} value={id}>
                    {id}
                </option>
            ))}
        </select>
    );
}

function KeyForm() {
    const field = useRef<HTMLInputElement>(null);
    useEffect(() => field.current?.focus(), []);
    return (
        <form
            class="key-form"
            onSubmit={(event) => {
                event.preventDefault();
                setKey(field.current!.value.trim());
                void loadInfo().then(() => loadLines());
            }}
        >
            <h1>{say("keyNeeded")}</h1>
            <label class="field">
                <span>{say("key")}</span>
                <input ref={field} type="password" autocomplete="off" required />
            </label>
            <button type="submit" class="main">
                {say("enter")}
            </button>
        </form>
    );
}
