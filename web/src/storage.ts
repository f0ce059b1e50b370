// What the browser remembers of this page: choices, never what was said.

/** A choice that was made earlier, if it is still one of those that there are. */
export function remembered<T extends string>(name: string, choices: readonly T[]): T | undefined {
    const value = localStorage.getItem(`hearth-${name}`);
    return choices.find((choice) => choice === value);
}

/** Remembers a choice. */
export function remember(name: string, value: string): void {
    localStorage.setItem(`hearth-${name}`, value);
}

/** A name that nothing else has. */
export function newId(): string {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
