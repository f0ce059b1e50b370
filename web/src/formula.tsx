// A formula, as MathML that the browser sets itself.

import temml from "temml";
import { useLayoutEffect, useRef } from "preact/hooks";

/** A formula in LaTeX; one that isn't understood is shown as it was written. */
export function Formula({ text, block }: { text: string; block: boolean }) {
    const place = useRef<HTMLSpanElement>(null);
    useLayoutEffect(() => {
        const options = { displayMode: block, throwOnError: true, trust: false, maxExpand: 500 };
        const span = place.current!;
        try {
            // It adds elements, never text that is read as markup.
            temml.render(text, span, options);
        } catch {
            span.replaceChildren(text);
        }
    }, [text, block]);
    return <span ref={place} class={block ? "formula wide" : "formula"} tabIndex={block ? 0 : undefined} />;
}
