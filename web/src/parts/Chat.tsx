// The conversation, and where one writes.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { current, model, problem, writers } from "../state";
import { answering, send } from "../talk";
import { branch } from "../tree";
import { say } from "../words";
import { IconButton } from "./IconButton";
import { MessageView } from "./MessageView";

/** So near its end, a conversation stays at its end while it grows. */
const NEAR = 80;

export function Chat() {
    const conversation = current.value;
    const shown = conversation ? branch(conversation) : [];
    const scroller = useRef<HTMLDivElement>(null);
    const atEnd = useRef(true);
    useLayoutEffect(() => {
        if (atEnd.current) scroller.current?.scrollTo({ top: scroller.current.scrollHeight });
    });
    useEffect(() => {
        atEnd.current = true;
    }, [conversation?.id, answering.value?.message]);
    return (
        <main class="chat">
            <div
                ref={scroller}
                class="scroller"
                onScroll={({ currentTarget: { scrollHeight, scrollTop, clientHeight } }) => {
                    atEnd.current = scrollHeight - scrollTop - clientHeight < NEAR;
                }}
            >
                <div class="column" role="log" aria-label={say("chat")} aria-live="off">
                    {conversation ? (
                        shown.map((message) => (
                            <MessageView key={message.id} conversation={conversation} message={message} />
                        ))
                    ) : (
                        <Welcome />
                    )}
                </div>
            </div>
            {problem.value && (
                <div class="column problem" role="alert">
                    <span>{problem.value}</span>
                    <IconButton icon="close" label={say("close")} onClick={() => (problem.value = null)} />
                </div>
            )}
            <Composer />
        </main>
    );
}

function Welcome() {
    const continues = model.value?.task === "completion";
    return (
        <div class="welcome">
            <h1>{say(continues ? "begin" : "hello")}</h1>
            {continues && <p class="hint">{say("completes")}</p>}
            {!writers.value.length && <p class="hint">{say("noModel")}</p>}
        </div>
    );
}

function Composer() {
    const [text, setText] = useState("");
    const area = useRef<HTMLTextAreaElement>(null);
    const id = current.value?.id;
    useEffect(() => area.current?.focus(), [id]);
    // As high as what is written, up to a limit that the style sets.
    useLayoutEffect(() => {
        const { style } = area.current!;
        style.height = "auto";
        style.height = `${area.current!.scrollHeight}px`;
    }, [text]);
    const isBusy = answering.value !== null;
    const submit = () => {
        if (!text.trim() || isBusy || !model.value) return;
        setText("");
        void send(text);
    };
    const placeholder = say(model.value?.task === "completion" ? "begin" : "ask");
    return (
        <form
            class="composer column"
            onSubmit={(event) => {
                event.preventDefault();
                submit();
            }}
        >
            <textarea
                ref={area}
                rows={1}
                value={text}
                aria-label={placeholder}
                placeholder={placeholder}
                onInput={(event) => setText(event.currentTarget.value)}
                onKeyDown={(event) => {
                    // While characters are being composed, Enter chooses among them.
                    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
                    event.preventDefault();
                    submit();
                }}
            />
            {isBusy ? (
                <IconButton icon="stop" class="main" label={say("stop")} onClick={() => answering.value?.stop()} />
            ) : (
                <IconButton
                    icon="send"
                    type="submit"
                    class="main"
                    label={say("send")}
                    disabled={!text.trim() || !model.value}
                />
            )}
        </form>
    );
}
