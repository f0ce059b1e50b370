// A message, and what can be done with it.

import { useEffect, useRef, useState } from "preact/hooks";
import type { Conversation, Message } from "../api";
import { Markdown } from "../markdown";
import { writers } from "../state";
import { answerAgain, answering, send, show } from "../talk";
import { endOf, siblings } from "../tree";
import { say } from "../words";
import { CopyButton } from "./CopyButton";
import { IconButton } from "./IconButton";
import { Look } from "./Look";

export function MessageView({ conversation, message }: { conversation: Conversation; message: Message }) {
    const [edits, setEdits] = useState(false);
    const [looks, setLooks] = useState(false);
    const isMine = message.role === "user";
    const isComing = answering.value?.message === message.id;
    const isBusy = answering.value !== null;
    const { tokens, problem } = message.detail;
    const hasTokens = !!tokens?.length && !isComing;
    return (
        <article class={isMine ? "message mine" : "message"} aria-label={isMine ? say("you") : message.detail.model}>
            {edits ? (
                <Editor message={message} done={() => setEdits(false)} />
            ) : looks && hasTokens ? (
                <Look tokens={tokens} />
            ) : (
                <Words message={message} isComing={isComing} />
            )}
            {problem && <p class="problem">{problem}</p>}
            {!edits && !isComing && (
                <footer>
                    <Versions conversation={conversation} message={message} />
                    <CopyButton text={message.content} />
                    {isMine && (
                        <IconButton icon="edit" label={say("edit")} disabled={isBusy} onClick={() => setEdits(true)} />
                    )}
                    {(!isMine || conversation.leaf === message.id) && (
                        <IconButton
                            icon="again"
                            label={say("again")}
                            disabled={isBusy}
                            onClick={() => void answerAgain(message)}
                        />
                    )}
                    {hasTokens && (
                        <IconButton icon="look" label={say("look")} pressed={looks} onClick={() => setLooks(!looks)} />
                    )}
                    <Facts message={message} />
                </footer>
            )}
        </article>
    );
}

function Words({ message, isComing }: { message: Message; isComing: boolean }) {
    const { role, content, detail } = message;
    const continues = writers.value.find((model) => model.id === detail.model)?.task === "completion";
    if (isComing && !content) return <p class="waiting" aria-label={say("answering")} />;
    return (
        <div class={isComing ? "words coming" : "words"}>
            {role === "user" || continues ? <p class="plain">{content}</p> : <Markdown text={content} />}
        </div>
    );
}

function Facts({ message: { detail } }: { message: Message }) {
    const facts = [];
    if (detail.model) facts.push(detail.model);
    if (detail.completion_tokens) facts.push(say("tokens", detail.completion_tokens));
    if (detail.per_second) facts.push(say("perSecond", detail.per_second.toFixed(1)));
    if (detail.finish === "stopped") facts.push(say("stopped"));
    if (detail.finish === "length") facts.push(say("cut"));
    return <span class="hint">{facts.join(" · ")}</span>;
}

function Versions({ conversation, message }: { conversation: Conversation; message: Message }) {
    const all = siblings(conversation, message);
    if (all.length < 2) return null;
    const at = all.findIndex((other) => other.id === message.id);
    const button = (to: number, icon: "left" | "right") => {
        const other = all[to];
        const label = say(icon === "left" ? "previous" : "next");
        const isOff = !other || answering.value !== null;
        const onClick = () => other && show(endOf(conversation, other.id));
        return <IconButton icon={icon} label={label} disabled={isOff} onClick={onClick} />;
    };
    return (
        <span class="versions" role="group" aria-label={say("version", at + 1, all.length)}>
            {button(at - 1, "left")}
            <span aria-hidden="true">
                {at + 1}/{all.length}
            </span>
            {button(at + 1, "right")}
        </span>
    );
}

function Editor({ message, done }: { message: Message; done: () => void }) {
    const [text, setText] = useState(message.content);
    const area = useRef<HTMLTextAreaElement>(null);
    useEffect(() => area.current?.focus(), []);
    const save = () => {
        done();
        if (text.trim()) void send(text, message.parent);
    };
    return (
        <form
            class="editor"
            onSubmit={(event) => {
                event.preventDefault();
                save();
            }}
            onKeyDown={(event) => {
                if (event.key === "Escape") done();
                if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) save();
            }}
        >
            <textarea
                ref={area}
                aria-label={say("edit")}
                value={text}
                rows={Math.min(12, text.split("\n").length + 1)}
                onInput={(event) => setText(event.currentTarget.value)}
            />
            <div class="buttons">
                <button type="button" onClick={done}>
                    {say("cancel")}
                </button>
                <button type="submit" class="main">
                    {say("send")}
                </button>
            </div>
        </form>
    );
}
