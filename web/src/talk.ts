// Talking with a model: questions go out, answers come in piece by piece, and all of it is kept.

import { batch, effect, signal } from "@preact/signals";
import {
    type Conversation,
    type Detail,
    type Message,
    type Settings,
    type Token,
    ApiError,
    ask,
    stream,
} from "./api";
import {
    chosenModel,
    current,
    go,
    info,
    loadInfo,
    loadLines,
    model,
    newSettings,
    place,
    problem,
    report,
    settings,
    spoken,
} from "./state";
import { newId } from "./storage";
import { branch } from "./tree";
import { say } from "./words";

/** Characters of a title that is made of the first question. */
const TITLE = 60;
/** How many other tokens are told at each place. */
const OTHERS = 5;
/** What came of an answer is shown so often. */
const SHOW_MS = 60;

/** The answer that is on its way, and how to stop it. */
export const answering = signal<{ conversation: string; message: string; stop: () => void } | null>(null);

// The conversation that the address names is the one that is shown.
let wanted: string | null = null;
effect(() => {
    const id = place.value.at === "chat" ? place.value.id : wanted;
    if (id === wanted || !info.value) return;
    wanted = id;
    if (id === current.peek()?.id) return;
    current.value = null;
    if (id !== null) void open(id);
});

async function open(id: string): Promise<void> {
    try {
        const told = await ask<Conversation>("GET", `/api/conversations/${id}`);
        if (wanted === id) current.value = told;
    } catch (error) {
        if (error instanceof ApiError && error.status === 404) go({ at: "chat", id: null });
        report(error);
    }
}

function keepHead(conversation: Conversation): Promise<void> {
    const { id, title, model, settings, leaf } = conversation;
    return keep(`/api/conversations/${id}`, { title, model, settings, leaf });
}

function keepMessage(conversation: string, message: Message): Promise<void> {
    const { id, parent, role, content, detail } = message;
    return keep(`/api/conversations/${conversation}/messages/${id}`, { parent, role, content, detail });
}

/** Conversations that were removed, while an answer may still be on its way. */
const removed = new Set<string>();

async function keep(path: string, body: unknown): Promise<void> {
    if (!info.value?.keeps_conversations) return;
    try {
        await ask("PUT", path, body);
    } catch (error) {
        report(error);
    }
}

/** Changes the conversation that is shown, if it's still this one. */
function change(id: string, how: (conversation: Conversation) => Conversation): void {
    if (current.peek()?.id === id) current.value = how(current.peek()!);
}

/** Says something: at the end of the branch, or in place of an earlier message. */
export async function send(content: string, parent?: string | null): Promise<void> {
    if (answering.peek() || !model.value) return;
    problem.value = null;
    const old = current.peek();
    const begun: Conversation = old ?? {
        id: newId(),
        title: content.trim().replace(/\s+/g, " ").slice(0, TITLE) || say("untitled"),
        model: model.value.id,
        settings: newSettings.peek(),
        leaf: null,
        messages: [],
    };
    const message: Message = {
        id: newId(),
        parent: parent === undefined ? begun.leaf : parent,
        role: "user",
        content,
        detail: {},
    };
    const conversation = { ...begun, leaf: message.id, messages: [...begun.messages, message] };
    batch(() => {
        current.value = conversation;
        if (!old) {
            wanted = conversation.id;
            go({ at: "chat", id: conversation.id });
        }
    });
    await keepHead(conversation);
    await keepMessage(conversation.id, message);
    void loadLines();
    await answer(conversation, message.id);
}

/** Answers a question of the conversation that is shown, once more or at last; or the one before an answer. */
export async function answerAgain(message: Message): Promise<void> {
    const conversation = current.peek();
    const question = message.role === "user" ? message.id : message.parent;
    if (conversation && question !== null && model.value && !answering.peek()) {
        problem.value = null;
        await answer(conversation, question);
    }
}

async function answer(conversation: Conversation, parent: string): Promise<void> {
    const { id } = conversation;
    const answerer = model.value!;
    const message: Message = { id: newId(), parent, role: "assistant", content: "", detail: { model: answerer.id } };
    const abort = new AbortController();
    answering.value = { conversation: id, message: message.id, stop: () => abort.abort() };
    spoken.value = say("answering");
    change(id, (shown) => ({ ...shown, leaf: message.id, messages: [...shown.messages, message] }));

    // What came is shown a few times a second, so that long answers stay cheap.
    let latest = message;
    const tokens: Token[] = [];
    let timer: ReturnType<typeof setTimeout> | undefined;
    const show = () => {
        timer = undefined;
        change(id, (shown) => ({
            ...shown,
            messages: shown.messages.map((other) => (other.id === message.id ? latest : other)),
        }));
    };
    const add = (text: string, more: Detail) => {
        tokens.push(...(more.tokens ?? []));
        latest = { ...latest, content: latest.content + text, detail: { ...latest.detail, ...more, tokens } };
        timer ??= setTimeout(show, SHOW_MS);
    };
    const path = branch(conversation, parent);
    try {
        const pieces = answerer.task === "chat" ? talk(path, abort.signal) : goOn(path, abort.signal);
        for await (const [text, more] of pieces) add(text, more);
    } catch (error) {
        if (abort.signal.aborted) add("", { finish: "stopped" });
        else {
            add("", { problem: error instanceof Error ? error.message : String(error) });
            report(error);
        }
    }
    clearTimeout(timer);
    show();
    answering.value = null;
    spoken.value = say("answered");
    if (removed.has(id)) return;
    await keepMessage(id, latest);
    const shown = current.peek();
    await keepHead(shown?.id === id ? shown : { ...conversation, leaf: message.id });
    void loadLines();
    if (!answerer.loaded) void loadInfo();
}

type Piece = [text: string, more: Detail];

interface Told {
    usage?: { prompt_tokens: number; completion_tokens: number };
    timings?: { predicted_per_second: number };
}

function body(more: Record<string, unknown>): Record<string, unknown> {
    const { system: _, ...sampling } = settings.value;
    return { model: model.value!.id, ...sampling, stream: true, stream_options: { include_usage: true }, ...more };
}

function numbers(told: Told): Detail {
    if (!told.usage) return {};
    const { prompt_tokens, completion_tokens } = told.usage;
    return { prompt_tokens, completion_tokens, per_second: told.timings?.predicted_per_second ?? 0 };
}

/** The answer of a model that talks. */
async function* talk(path: Message[], signal: AbortSignal): AsyncGenerator<Piece> {
    interface Logprob {
        token: string;
        logprob: number;
    }
    interface Chunk extends Told {
        choices: {
            delta: { content?: string };
            finish_reason: string | null;
            logprobs?: { content?: (Logprob & { top_logprobs: Logprob[] })[] } | null;
        }[];
    }
    const { system } = settings.value;
    const messages = [
        ...(system?.trim() ? [{ role: "system", content: system }] : []),
        ...path.map(({ role, content }) => ({ role, content })),
    ];
    const asked = body({ messages, logprobs: true, top_logprobs: OTHERS });
    for await (const chunk of stream<Chunk>("/v1/chat/completions", asked, signal)) {
        const choice = chunk.choices[0];
        const more = numbers(chunk);
        const tokens = choice?.logprobs?.content?.map(
            ({ token, logprob, top_logprobs }): Token => [
                token,
                logprob,
                top_logprobs.map((other) => [other.token, other.logprob]),
            ],
        );
        if (tokens) more.tokens = tokens;
        if (choice?.finish_reason) more.finish = choice.finish_reason;
        yield [choice?.delta.content ?? "", more];
    }
}

/** How a model goes on that only continues texts: all that was written so far is one text. */
async function* goOn(path: Message[], signal: AbortSignal): AsyncGenerator<Piece> {
    interface Chunk extends Told {
        choices: {
            text: string;
            finish_reason: string | null;
            logprobs?: {
                tokens: string[];
                token_logprobs: number[];
                top_logprobs: Record<string, number>[];
            } | null;
        }[];
    }
    const prompt = path.map((message) => message.content).join("");
    const asked = body({ prompt, logprobs: OTHERS, max_tokens: settings.value.max_tokens ?? 256 });
    for await (const chunk of stream<Chunk>("/v1/completions", asked, signal)) {
        const choice = chunk.choices[0];
        const more = numbers(chunk);
        const told = choice?.logprobs;
        if (told) {
            more.tokens = told.tokens.map((token, i): Token => [
                token,
                told.token_logprobs[i] ?? 0,
                Object.entries(told.top_logprobs[i] ?? {}),
            ]);
        }
        if (choice?.finish_reason) more.finish = choice.finish_reason;
        yield [choice?.text ?? "", more];
    }
}

/** Shows another branch. */
export function show(leaf: string): void {
    const conversation = current.peek();
    if (!conversation) return;
    current.value = { ...conversation, leaf };
    void keepHead(current.value);
}

/** Chooses the model of the conversation that is shown, and of those to come. */
export function choose(model: string): void {
    localStorage.setItem("hearth-model", model);
    chosenModel.value = model;
    update({ model });
}

/** Chooses how answers are made. */
export function set(changed: Settings): void {
    if (current.peek()) update({ settings: changed });
    else newSettings.value = changed;
}

function update(changed: Partial<Conversation>): void {
    const conversation = current.peek();
    if (!conversation) return;
    current.value = { ...conversation, ...changed };
    void keepHead(current.value);
}

/** Gives a conversation another title. */
export async function rename(id: string, title: string): Promise<void> {
    const shown = current.peek();
    const conversation = shown?.id === id ? shown : await ask<Conversation>("GET", `/api/conversations/${id}`);
    const renamed = { ...conversation, title };
    if (shown?.id === id) current.value = renamed;
    await keepHead(renamed);
    await loadLines();
}

/** Removes a conversation. */
export async function remove(id: string): Promise<void> {
    removed.add(id);
    if (answering.peek()?.conversation === id) answering.peek()!.stop();
    try {
        await ask("DELETE", `/api/conversations/${id}`);
    } catch (error) {
        report(error);
    }
    if (current.peek()?.id === id) go({ at: "chat", id: null });
    await loadLines();
}
