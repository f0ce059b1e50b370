// Puts a text into the clipboard.

import { useEffect, useState } from "preact/hooks";
import { say } from "../words";
import { IconButton } from "./IconButton";

const SHOWN_MS = 1500;

async function copy(text: string): Promise<void> {
    // Pages that came without encryption have no clipboard of the newer kind.
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
}

export function CopyButton({ text }: { text: string }) {
    const [copied, setCopied] = useState(false);
    useEffect(() => {
        if (!copied) return;
        const timer = setTimeout(() => setCopied(false), SHOWN_MS);
        return () => clearTimeout(timer);
    }, [copied]);
    return (
        <IconButton
            icon={copied ? "done" : "copy"}
            label={say(copied ? "copied" : "copy")}
            onClick={() => void copy(text).then(() => setCopied(true))}
        />
    );
}
