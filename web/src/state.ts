// What the page shows: which view, which conversation, what the server has.

import { computed, signal } from "@preact/signals";
import { ApiError, type Conversation, type Info, type Line, type Model, type Settings, ask } from "./api";
import { remember, remembered } from "./storage";

/** Where the page is; the address says it, so that it can be kept and shared. */
export type Place = { at: "chat"; id: string | null } | { at: "runs"; id: string | null };

/** The place that an address means. */
export function placeOf(hash: string): Place {
    const [, at, id] = hash.split("/");
    if (at === "runs") return { at: "runs", id: id || null };
    return { at: "chat", id: (at === "c" && id) || null };
}

export const place = signal<Place>(placeOf(location.hash));
export const info = signal<Info | null>(null);
/** Whether the server asks for a key. */
export const needsKey = signal(false);
/** What went wrong last. */
export const problem = signal<string | null>(null);
/** Words for those who don't see the page. */
export const spoken = signal("");

/** Goes somewhere. */
export function go(to: Place): void {
    const hash = to.at === "runs" ? (to.id ? `#/runs/${to.id}` : "#/runs") : to.id ? `#/c/${to.id}` : "#/";
    if (location.hash !== hash) history.pushState(null, "", hash);
    place.value = to;
}

/** Says what went wrong; a key that's missing is asked for. */
export function report(error: unknown): void {
    if (error instanceof ApiError && error.status === 401) needsKey.value = true;
    else problem.value = error instanceof Error ? error.message : String(error);
}

/** Asks the server what it is. */
export async function loadInfo(): Promise<void> {
    try {
        info.value = await ask<Info>("GET", "/api/info");
        needsKey.value = false;
    } catch (error) {
        report(error);
    }
}

// Conversations.

/** The one that is shown; none: one that hasn't begun. */
export const current = signal<Conversation | null>(null);
export const lines = signal<Line[]>([]);
export const hasMore = signal(false);
export const search = signal("");

let asked = 0;

/** Loads the list of conversations, or more of it. */
export async function loadLines(more = false): Promise<void> {
    if (!info.value?.keeps_conversations) return;
    const mine = ++asked;
    const skip = more ? lines.value.length : 0;
    const query = new URLSearchParams({ skip: String(skip), query: search.value.trim() });
    try {
        const told = await ask<{ conversations: Line[]; more: boolean }>("GET", `/api/conversations?${query}`);
        // A later question has overtaken this one.
        if (mine !== asked) return;
        lines.value = more ? [...lines.value, ...told.conversations] : told.conversations;
        hasMore.value = told.more;
    } catch (error) {
        report(error);
    }
}

// Choices.

/** The models that write texts. */
export const writers = computed<Model[]>(
    () => info.value?.models.filter((model) => model.task === "chat" || model.task === "completion") ?? [],
);
/** The one that was chosen last, for conversations that haven't begun. */
export const chosenModel = signal<string | null>(localStorage.getItem("hearth-model"));
/** How conversations that haven't begun will be answered. */
export const newSettings = signal<Settings>({});

/** The model that answers now. */
export const model = computed<Model | undefined>(() => {
    const wanted = current.value?.model ?? chosenModel.value;
    return writers.value.find((model) => model.id === wanted) ?? writers.value[0];
});

/** How it answers. */
export const settings = computed<Settings>(() => current.value?.settings ?? newSettings.value);

export const themes = ["auto", "light", "dark"] as const;
export type Theme = (typeof themes)[number];
export const theme = signal<Theme>(remembered("theme", themes) ?? "auto");

/** Chooses how light the page is. */
export function setTheme(chosen: Theme): void {
    theme.value = chosen;
    remember("theme", chosen);
}
