// What the server is asked, and how its answers come: as JSON, or as a stream of events.

const KEY = "hearth-key";

/** What a server says that can't do what was asked. */
export class ApiError extends Error {
    constructor(
        readonly status: number,
        message: string,
        readonly code?: string,
    ) {
        super(message);
    }
}

/** The key that requests carry; it's forgotten with the tab. */
export function setKey(key: string): void {
    sessionStorage.setItem(KEY, key);
}

async function send(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<Response> {
    const headers: Record<string, string> = {};
    const key = sessionStorage.getItem(KEY);
    if (key) headers["Authorization"] = `Bearer ${key}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const init: RequestInit = { method, headers, cache: "no-store" };
    if (signal) init.signal = signal;
    if (body !== undefined) init.body = JSON.stringify(body);
    const response = await fetch(path, init);
    if (response.ok) return response;
    const said = await response.json().catch(() => null);
    throw new ApiError(response.status, said?.error?.message ?? response.statusText, said?.error?.code);
}

/** A request whose answer is JSON. */
export async function ask<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
    return (await send(method, path, body, signal)).json();
}

/** A request whose answer comes as events, until the server says that it's done. */
export async function* stream<T>(path: string, body: unknown, signal: AbortSignal): AsyncGenerator<T> {
    const response = await send("POST", path, body, signal);
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        const lines = (rest + value).split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) {
            if (!line.startsWith("data: ")) continue;
            const data = line.slice("data: ".length);
            if (data === "[DONE]") return;
            const event = JSON.parse(data);
            if (event.error) throw new ApiError(500, event.error.message, event.error.code);
            yield event as T;
        }
    }
}

/** A model that is served. */
export interface Model {
    id: string;
    task: "chat" | "completion" | "embedding" | "classify" | "tag";
    loaded: boolean;
}

/** What the server is. */
export interface Info {
    version: string;
    models: Model[];
    keeps_conversations: boolean;
    max_tokens: number;
}

/** A line of the list of conversations. */
export interface Line {
    id: string;
    title: string;
    model: string | null;
    updated: number;
    found?: string;
}

/** A token, its log-probability, and what else could have stood there. */
export type Token = [text: string, logprob: number, others: [text: string, logprob: number][]];

/** What is known of an answer. */
export interface Detail {
    model?: string;
    /** Why it ended: what the server says, or that somebody stopped it. */
    finish?: string;
    problem?: string;
    tokens?: Token[];
    prompt_tokens?: number;
    completion_tokens?: number;
    per_second?: number;
}

/** A message of a conversation. */
export interface Message {
    id: string;
    parent: string | null;
    role: "user" | "assistant";
    content: string;
    detail: Detail;
}

/** How answers are made. */
export interface Settings {
    system?: string;
    temperature?: number;
    top_p?: number;
    top_k?: number;
    max_tokens?: number;
    seed?: number;
}

/** A conversation: a tree of messages, of which one branch is shown. */
export interface Conversation {
    id: string;
    title: string;
    model: string | null;
    settings: Settings;
    leaf: string | null;
    messages: Message[];
}

/** A training run. */
export interface Run {
    id: string;
    name: string;
    bytes: number;
    updated: number;
}

/** What happened in a run; which fields there are depends on the event. */
export type RunEvent = { event: string } & Record<string, unknown>;
