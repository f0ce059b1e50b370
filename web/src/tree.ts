// A conversation is a tree: a message that is edited, or answered again, gets a sibling. One branch is shown.

import type { Conversation, Message } from "./api";

/** The branch that ends with a message, from the first one on. */
export function branch(conversation: Conversation, leaf: string | null = conversation.leaf): Message[] {
    const byId = new Map(conversation.messages.map((message) => [message.id, message]));
    const path: Message[] = [];
    const seen = new Set<string>();
    for (let id = leaf; id !== null && !seen.has(id); ) {
        seen.add(id);
        const message = byId.get(id);
        if (!message) break;
        path.push(message);
        id = message.parent;
    }
    return path.reverse();
}

/** All versions of a message, the oldest first. */
export function siblings(conversation: Conversation, message: Message): Message[] {
    return conversation.messages.filter((other) => other.parent === message.parent && other.role === message.role);
}

/** Where the branch through a message ends: of several versions the latest counts. */
export function endOf(conversation: Conversation, id: string): string {
    const seen = new Set([id]);
    for (let end = id; ; ) {
        const next = conversation.messages.findLast((message) => message.parent === end && !seen.has(message.id));
        if (!next) return end;
        seen.add(next.id);
        end = next.id;
    }
}
