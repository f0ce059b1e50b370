// What there is to go to: conversations, runs, and how the page looks.

import { useEffect, useRef, useState } from "preact/hooks";
import type { Line } from "../api";
import {
    current,
    go,
    hasMore,
    info,
    lines,
    loadLines,
    place,
    search,
    setTheme,
    type Theme,
    theme,
    themes,
} from "../state";
import { remove, rename } from "../talk";
import { language, languageNames, say, setLanguage } from "../words";
import { IconButton, Picture } from "./IconButton";

/** A search begins after so long without another letter. */
const PAUSE_MS = 200;

export function Sidebar({ leave }: { leave: () => void }) {
    const keeps = info.value?.keeps_conversations;
    const isRuns = place.value.at === "runs";
    return (
        <nav class="sidebar" aria-label={say("menu")}>
            <div class="places">
                <button
                    type="button"
                    class="place"
                    accessKey="n"
                    onClick={() => {
                        go({ at: "chat", id: null });
                        leave();
                    }}
                >
                    <Picture icon="plus" />
                    {say("newChat")}
                </button>
                <button
                    type="button"
                    class="place"
                    aria-current={isRuns ? "page" : undefined}
                    onClick={() => {
                        go({ at: "runs", id: null });
                        leave();
                    }}
                >
                    <Picture icon="curve" />
                    {say("runs")}
                </button>
            </div>
            {keeps ? <Conversations leave={leave} /> : info.value && <p class="hint">{say("notKept")}</p>}
            <Looks />
        </nav>
    );
}

function Conversations({ leave }: { leave: () => void }) {
    const field = useRef<HTMLInputElement>(null);
    useEffect(() => {
        const timer = setTimeout(() => void loadLines(), search.value ? PAUSE_MS : 0);
        return () => clearTimeout(timer);
    }, [search.value]);
    useEffect(() => {
        const jump = (event: KeyboardEvent) => {
            if (event.key !== "k" || !(event.ctrlKey || event.metaKey)) return;
            event.preventDefault();
            field.current?.focus();
        };
        addEventListener("keydown", jump);
        return () => removeEventListener("keydown", jump);
    }, []);
    return (
        <section class="conversations" aria-label={say("conversations")}>
            <input
                ref={field}
                type="search"
                value={search.value}
                placeholder={say("searchShort")}
                aria-label={say("search")}
                onInput={(event) => (search.value = event.currentTarget.value)}
            />
            <ul>
                {lines.value.map((line) => (
                    <Entry key={line.id} line={line} leave={leave} />
                ))}
            </ul>
            {!lines.value.length && <p class="hint">{say(search.value ? "nothingFound" : "noConversations")}</p>}
            {hasMore.value && (
                <button type="button" onClick={() => void loadLines(true)}>
                    {say("more")}
                </button>
            )}
        </section>
    );
}

function Entry({ line, leave }: { line: Line; leave: () => void }) {
    const [title, setTitle] = useState<string | null>(null);
    const isShown = place.value.at === "chat" && current.value?.id === line.id;
    if (title !== null) {
        const save = () => {
            setTitle(null);
            if (title.trim() && title !== line.title) void rename(line.id, title.trim());
        };
        return (
            <li>
                <input
                    value={title}
                    maxLength={200}
                    aria-label={say("rename")}
                    ref={(field) => field?.focus()}
                    onInput={(event) => setTitle(event.currentTarget.value)}
                    onBlur={save}
                    onKeyDown={(event) => {
                        if (event.key === "Enter") save();
                        if (event.key === "Escape") setTitle(null);
                    }}
                />
            </li>
        );
    }
    return (
        <li class={isShown ? "entry shown" : "entry"}>
            <a
                href={`#/c/${line.id}`}
                aria-current={isShown ? "page" : undefined}
                onClick={(event) => {
                    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
                    event.preventDefault();
                    go({ at: "chat", id: line.id });
                    leave();
                }}
            >
                {line.title || say("untitled")}
                {line.found && <small>{line.found}</small>}
            </a>
            <IconButton icon="edit" label={`${say("rename")}: ${line.title}`} onClick={() => setTitle(line.title)} />
            <IconButton
                icon="remove"
                label={`${say("remove")}: ${line.title}`}
                onClick={() => confirm(say("removeSure")) && void remove(line.id)}
            />
        </li>
    );
}

function Looks() {
    return (
        <div class="looks">
            <label>
                <span>{say("language")}</span>
                <select
                    value={language.value}
                    onChange={(event) => setLanguage(event.currentTarget.value as typeof language.value)}
                >
                    {languageNames.map(([code, name]) => (
                        <option key={code} value={code}>
                            {name}
                        </option>
                    ))}
                </select>
            </label>
            <label>
                <span>{say("theme")}</span>
                <select value={theme.value} onChange={(event) => setTheme(event.currentTarget.value as Theme)}>
                    {themes.map((theme) => (
                        <option key={theme} value={theme}>
                            {say(theme)}
                        </option>
                    ))}
                </select>
            </label>
            <p class="hint">Hearth {info.value?.version}</p>
        </div>
    );
}
