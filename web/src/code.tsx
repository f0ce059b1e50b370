// A block of code, in colours.

import type { ElementContent, RootContent } from "hast";
import bash from "highlight.js/lib/languages/bash";
import c from "highlight.js/lib/languages/c";
import cpp from "highlight.js/lib/languages/cpp";
import csharp from "highlight.js/lib/languages/csharp";
import css from "highlight.js/lib/languages/css";
import diff from "highlight.js/lib/languages/diff";
import go from "highlight.js/lib/languages/go";
import ini from "highlight.js/lib/languages/ini";
import java from "highlight.js/lib/languages/java";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import kotlin from "highlight.js/lib/languages/kotlin";
import latex from "highlight.js/lib/languages/latex";
import lua from "highlight.js/lib/languages/lua";
import markdown from "highlight.js/lib/languages/markdown";
import php from "highlight.js/lib/languages/php";
import python from "highlight.js/lib/languages/python";
import r from "highlight.js/lib/languages/r";
import ruby from "highlight.js/lib/languages/ruby";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import swift from "highlight.js/lib/languages/swift";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";
import { createLowlight } from "lowlight";
import { Fragment } from "preact";
import { useMemo } from "preact/hooks";
import { CopyButton } from "./parts/CopyButton";

/** Longer code stays in one colour. */
const LONGEST = 50_000;

const lowlight = createLowlight({
    bash,
    c,
    cpp,
    csharp,
    css,
    diff,
    go,
    ini,
    java,
    javascript,
    json,
    kotlin,
    latex,
    lua,
    markdown,
    php,
    python,
    r,
    ruby,
    rust,
    sql,
    swift,
    typescript,
    xml,
    yaml,
});

function coloured(node: RootContent | ElementContent, key: number) {
    switch (node.type) {
        case "text":
            return <Fragment key={key}>{node.value}</Fragment>;
        case "element": {
            const classes = node.properties["className"];
            return (
                <span key={key} class={Array.isArray(classes) ? classes.join(" ") : undefined}>
                    {node.children.map(coloured)}
                </span>
            );
        }
        default:
            return null;
    }
}

/** Code of a language, if it's one that is known. */
export function Code({ text, language }: { text: string; language: string }) {
    const inside = useMemo(() => {
        if (!lowlight.registered(language) || text.length > LONGEST) return text;
        return lowlight.highlight(language, text).children.map(coloured);
    }, [text, language]);
    return (
        <div class="code">
            <div class="code-head">
                <span>{language}</span>
                <CopyButton text={text} />
            </div>
            <pre tabIndex={0}>
                <code>{inside}</code>
            </pre>
        </div>
    );
}
