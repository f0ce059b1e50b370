// Markdown as elements. What a model writes is untrusted: HTML in it is shown as it was written, nothing is loaded,
// links lead only to where links may, and no text ever becomes markup.

import type { Definition, Nodes, Parents, Root, Table } from "mdast";
import { fromMarkdown } from "mdast-util-from-markdown";
import { gfmFromMarkdown } from "mdast-util-gfm";
import { mathFromMarkdown } from "mdast-util-math";
import { gfm } from "micromark-extension-gfm";
import { math } from "micromark-extension-math";
import { type ComponentChildren, Fragment, h } from "preact";
import { useMemo } from "preact/hooks";
import { Code } from "./code";
import { Formula } from "./formula";
import { say } from "./words";

/** Longer texts, and deeper ones, are shown as they are. */
const LONGEST = 200_000;
const DEEPEST = 40;
/** Schemes that a link may have. */
const SCHEMES = new Set(["http:", "https:", "mailto:"]);

const options = {
    extensions: [gfm(), math({ singleDollarTextMath: false })],
    mdastExtensions: [gfmFromMarkdown(), mathFromMarkdown()],
};

/**
 * Formulas between `\(` and `\)`, `\[` and `\]`, or single dollars, written with the double dollars that the parser
 * knows. A dollar is a currency unless a formula stands right beside it and no digit follows. Code is left alone.
 */
export function withFormulas(text: string): string {
    const parts =
        /(```[\s\S]*?(?:```|$)|~~~[\s\S]*?(?:~~~|$)|`[^`\n]*`|\$\$[\s\S]*?(?:\$\$|$))|\\\[([\s\S]+?)\\\]|\\\(([\s\S]+?)\\\)|(?<![\\$\w])\$(?![\s$])([^$\n]*?[^\s$\\])\$(?![\d$])/g;
    return text.replace(parts, (whole, kept, block, inline, dollars) => {
        if (kept !== undefined) return whole;
        if (block !== undefined) return `\n$$$$\n${block.trim()}\n$$$$\n`;
        return `$$${inline?.trim() ?? dollars}$$`;
    });
}

/** A text in Markdown. */
export function Markdown({ text }: { text: string }) {
    return useMemo(() => {
        const plain = <p class="plain">{text}</p>;
        if (text.length > LONGEST) return plain;
        try {
            return new Shown(fromMarkdown(withFormulas(text), options)).all();
        } catch (error) {
            // Nested so deeply that the parser gave up.
            if (error instanceof RangeError) return plain;
            throw error;
        }
    }, [text]);
}

function safe(address: string): string | null {
    try {
        return SCHEMES.has(new URL(address).protocol) ? address : null;
    } catch {
        return null;
    }
}

/** The words of a node, without what they look like. */
function wordsOf(node: Nodes): string {
    if ("value" in node) return node.value;
    if ("alt" in node && node.alt) return node.alt;
    return "children" in node ? node.children.map(wordsOf).join("") : "";
}

class Shown {
    private readonly definitions = new Map<string, Definition>();
    private readonly footnotes: string[] = [];

    constructor(private readonly root: Root) {
        this.define(root, 0);
    }

    private define(node: Nodes, depth: number): void {
        if (node.type === "definition" && !this.definitions.has(node.identifier)) {
            this.definitions.set(node.identifier, node);
        }
        if ("children" in node && depth < DEEPEST) node.children.forEach((child) => this.define(child, depth + 1));
    }

    all() {
        return <>{this.children(this.root, 0)}</>;
    }

    private children(node: Parents, depth: number): ComponentChildren {
        return node.children.map((child, i) => <Fragment key={i}>{this.node(child, depth + 1)}</Fragment>);
    }

    private link(address: string | undefined, children: ComponentChildren) {
        const href = address === undefined ? null : safe(address);
        if (href === null) return <span>{children}</span>;
        return (
            <a href={href} target="_blank" rel="noopener noreferrer nofollow">
                {children}
            </a>
        );
    }

    /** Pictures aren't loaded: asking for one would tell its server what was talked about. */
    private image(address: string | undefined, alt: string | null | undefined) {
        return this.link(address, `[${say("image")}: ${alt || address || ""}]`);
    }

    private number(identifier: string): number {
        if (!this.footnotes.includes(identifier)) this.footnotes.push(identifier);
        return this.footnotes.indexOf(identifier) + 1;
    }

    private table(table: Table, depth: number) {
        const [head, ...rows] = table.children;
        const cells = (row: Table["children"][number], tag: "th" | "td") => (
            <tr>
                {row.children.map((cell, i) =>
                    h(tag, { key: i, class: table.align?.[i] ?? undefined }, this.children(cell, depth + 1)),
                )}
            </tr>
        );
        return (
            <div class="wide" tabIndex={0}>
                <table>
                    {head && <thead>{cells(head, "th")}</thead>}
                    <tbody>{rows.map((row) => cells(row, "td"))}</tbody>
                </table>
            </div>
        );
    }

    private node(node: Nodes, depth: number): ComponentChildren {
        if (depth > DEEPEST) return wordsOf(node);
        const inside = () => ("children" in node ? this.children(node, depth) : null);
        switch (node.type) {
            case "text":
            case "html":
                return node.value;
            case "paragraph":
                return <p>{inside()}</p>;
            case "heading":
                // The page has headings of its own.
                return h(`h${Math.min(node.depth + 2, 6)}`, {}, inside());
            case "emphasis":
                return <em>{inside()}</em>;
            case "strong":
                return <strong>{inside()}</strong>;
            case "delete":
                return <del>{inside()}</del>;
            case "inlineCode":
                return <code>{node.value}</code>;
            case "code":
                return <Code text={node.value} language={node.lang ?? ""} />;
            case "inlineMath":
                return <Formula text={node.value} block={false} />;
            case "math":
                return <Formula text={node.value} block={true} />;
            case "break":
                return <br />;
            case "thematicBreak":
                return <hr />;
            case "blockquote":
                return <blockquote>{inside()}</blockquote>;
            case "list":
                return node.ordered ? <ol start={node.start ?? 1}>{inside()}</ol> : <ul>{inside()}</ul>;
            case "listItem":
                return (
                    <li class={typeof node.checked === "boolean" ? "task" : undefined}>
                        {typeof node.checked === "boolean" && (
                            <input type="checkbox" checked={node.checked} disabled />
                        )}
                        {!node.spread && node.children[0]?.type === "paragraph" ? (
                            <>
                                {this.children(node.children[0], depth + 1)}
                                {node.children.slice(1).map((child) => this.node(child, depth + 1))}
                            </>
                        ) : (
                            inside()
                        )}
                    </li>
                );
            case "table":
                return this.table(node, depth);
            case "link":
                return this.link(node.url, inside());
            case "linkReference":
                return this.link(this.definitions.get(node.identifier)?.url, inside());
            case "image":
                return this.image(node.url, node.alt);
            case "imageReference":
                return this.image(this.definitions.get(node.identifier)?.url, node.alt);
            case "footnoteReference":
                return <sup>{this.number(node.identifier)}</sup>;
            case "footnoteDefinition":
                return (
                    <div class="footnote">
                        <sup>{this.number(node.identifier)}</sup> {inside()}
                    </div>
                );
            case "definition":
                return null;
            default:
                return wordsOf(node);
        }
    }
}
