// The page in a browser, as people use it. Usage: page.mjs ADDRESS FOLDER; pictures of it are left in the folder.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import path from "node:path";
import { chromium } from "playwright-core";

const [address, pictures] = process.argv.slice(2);
const executablePath = process.env.CHROMIUM ?? execFileSync("which", ["chromium"], { encoding: "utf8" }).trim();
// Chromium's own sandbox can't be had as root, which is what containers run as.
const args = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
const browser = await chromium.launch({ executablePath, args });

/** A new window; whatever goes wrong in it without being seen is a failure. */
async function open(options = {}) {
    const context = await browser.newContext({ locale: "en-GB", viewport: { width: 1200, height: 800 }, ...options });
    context.setDefaultTimeout(20_000);
    const page = await context.newPage();
    const wrong = [];
    page.on("pageerror", (error) => wrong.push(error.message));
    page.on("console", (message) => message.type() === "error" && wrong.push(message.text()));
    page.on("dialog", (dialog) => {
        wrong.push(`a dialog: ${dialog.message()}`);
        void dialog.dismiss();
    });
    const elsewhere = [];
    page.on("request", (request) => request.url().startsWith(address) || elsewhere.push(request.url()));
    await page.goto(address);
    return { page, wrong, elsewhere, close: () => context.close() };
}

const shot = (page, name) => page.screenshot({ path: path.join(pictures, `${name}.png`) });
const button = (place, name) => place.getByRole("button", { name, exact: true });
const answers = (page) => page.getByRole("article", { name: "tiny" });

/** Waits until what is asked holds. */
async function until(what, holds) {
    for (let i = 0; i < 200; i++) {
        if (await holds()) return;
        await new Promise((wake) => setTimeout(wake, 50));
    }
    assert.fail(what);
}

const idle = (page) => until("the answer ends", async () => (await button(page, "Stop").count()) === 0);

const tests = {
    async "a conversation: answer, again, edit, reload, find, rename, remove"() {
        const { page, wrong, elsewhere, close } = await open();
        const field = page.getByRole("textbox", { name: "Ask anything" });
        await field.fill("Where is the cat?");
        await field.press("Enter");
        await until("an answer", async () => (await answers(page).count()) === 1);
        await idle(page);
        assert.match(await answers(page).textContent(), /24 tokens/);

        await button(answers(page), "Answer again").click();
        await until("a second version", async () => /2\/2/.test(await page.getByRole("log").textContent()));
        await idle(page);
        const second = await answers(page).textContent();
        await button(page, "Previous version").click();
        await until("the first version", async () => /1\/2/.test(await answers(page).textContent()));
        assert.notEqual(await answers(page).textContent(), second);

        const mine = page.getByRole("article", { name: "You" });
        await button(mine, "Edit").click();
        await mine.getByRole("textbox").fill("Where is the dog?");
        await button(mine, "Send").click();
        await until("the edited question", async () => /dog/.test(await mine.textContent()));
        await idle(page);
        assert.match(await mine.textContent(), /2\/2/);

        const shown = await page.getByRole("log").textContent();
        await page.reload();
        await until("the same after a reload", async () => (await page.getByRole("log").textContent()) === shown);
        await button(page, "New chat").click();
        await until("an empty page", async () => (await answers(page).count()) === 0);
        const search = page.getByRole("searchbox");
        await search.fill("no such words");
        await page.getByText("Nothing found.").waitFor();
        await search.fill("the cat");
        const found = page.getByRole("link", { name: /Where is the cat/ });
        await found.click();
        await until("it is found again", async () => /dog/.test(await page.getByRole("log").textContent()));
        await search.fill("");

        await found.hover();
        await button(page, "Rename: Where is the cat?").click();
        await page.getByRole("textbox", { name: "Rename" }).fill("Pets");
        await page.keyboard.press("Enter");
        const renamed = page.getByRole("link", { name: "Pets" });
        await renamed.waitFor();
        assert.equal(await page.title(), "Pets – Hearth");
        page.removeAllListeners("dialog");
        page.once("dialog", (dialog) => dialog.accept());
        await renamed.hover();
        await button(page, "Delete: Pets").click();
        await until("it is gone", async () => (await renamed.count()) === 0);
        assert.equal(await answers(page).count(), 0);
        assert.deepEqual([wrong, elsewhere], [[], []]);
        await close();
    },

    async "stopping, and what was written until then is kept"() {
        const { page, wrong, close } = await open();
        await button(page, "Settings").click();
        const longest = page.getByRole("spinbutton", { name: /Longest answer/ });
        await longest.fill("25000");
        await longest.press("Tab");
        await page.getByRole("textbox", { name: "System prompt" }).fill("You are a cat.");
        const field = page.getByRole("textbox", { name: "Ask anything" });
        await field.fill("Write a long story");
        await field.press("Enter");
        await until("words", async () => (await answers(page).textContent()).length > 50);
        await button(page, "Stop").click();
        await idle(page);
        assert.match(await answers(page).textContent(), /Stopped/);
        const words = await answers(page).locator(".words").textContent();
        await until("it is kept", async () => {
            await page.reload();
            await answers(page).waitFor();
            return (await answers(page).locator(".words").textContent()) === words;
        });
        // The settings belong to the conversation.
        await button(page, "Settings").click();
        assert.equal(await page.getByRole("textbox", { name: "System prompt" }).inputValue(), "You are a cat.");
        // Escape stops, too.
        await page.getByRole("textbox", { name: "Ask anything" }).fill("Another one");
        await page.keyboard.press("Enter");
        await until("words", async () => (await answers(page).count()) === 2);
        await page.keyboard.press("Escape");
        await idle(page);
        // Who leaves in the middle of an answer can have it after all.
        await page.getByRole("textbox", { name: "Ask anything" }).fill("And one more");
        await page.keyboard.press("Enter");
        await until("words", async () => (await answers(page).count()) === 3);
        await page.reload();
        const question = page.getByRole("article", { name: "You" }).last();
        await button(question, "Answer again").click();
        await until("words", async () => (await answers(page).count()) === 3);
        await page.keyboard.press("Escape");
        await idle(page);
        assert.deepEqual(wrong, []);
        await close();
    },

    async "inside an answer, by keyboard"() {
        const { page, wrong, close } = await open();
        await page.getByRole("textbox", { name: "Ask anything" }).fill("Look");
        await page.keyboard.press("Enter");
        await answers(page).waitFor();
        await idle(page);
        await button(answers(page), "Look inside").click();
        const list = page.getByRole("listbox");
        assert.equal(await list.getByRole("option").count(), 24);
        await list.focus();
        await page.keyboard.press("ArrowRight");
        assert.equal(await list.getByRole("option").nth(1).getAttribute("aria-selected"), "true");
        await page.keyboard.press("End");
        assert.equal(await list.getByRole("option").nth(23).getAttribute("aria-selected"), "true");
        const shares = await page.locator(".others .number").allTextContents();
        assert.ok(shares.length >= 5, shares.join());
        const sum = shares.reduce((sum, share) => sum + (Number.parseFloat(share) || 0), 0);
        assert.ok(sum > 97 && sum < 103, `${shares.join()} are ${sum}`);
        await shot(page, "look");
        assert.deepEqual(wrong, []);
        await close();
    },

    async "what a model writes stays inert"() {
        const { page, wrong, elsewhere, close } = await open();
        const hostile = [
            '<img src=x onerror="window.hit=1"><script>window.hit=1</script><svg onload="window.hit=1">',
            "[a](javascript:window.hit=1) [b](data:text/html,<script>window.hit=1</script>) [c](https://example.org/)",
            "[d](JaVaScRiPt&colon;window.hit=1) <javascript:window.hit=1> [e]: javascript:window.hit=1",
            "![picture](https://example.org/track.png) ![x](x.png)",
            '<iframe srcdoc="<script>parent.hit=1</script>"></iframe><a href="javascript:window.hit=1">f</a>',
            "$$\\href{javascript:window.hit=1}{g} \\unicode{x} \\htmlStyle{color:red}{h}$$",
            "```html\n<img src=x onerror=window.hit=1>\n```",
            '<style>body { display: none }</style><meta http-equiv="refresh" content="0;url=https://example.org">',
            `| a | b |\n|---|---|\n${"| <b>1</b> | <script>window.hit=1</script> |\n".repeat(3000)}`,
            `${">".repeat(3000)} deep`,
            `${"[".repeat(2000)}x${"](y)".repeat(2000)}`,
        ];
        const put = (path, data) => page.request.put(`${address}/api/conversations/hostile${path}`, { data });
        await put("", { title: "<img src=x onerror=window.hit=1>", model: "tiny", leaf: "m9" });
        for (const [i, content] of hostile.entries()) {
            const parent = i ? `m${i - 1}` : null;
            const done = await put(`/messages/m${i}`, { parent, role: "assistant", content, detail: { model: "tiny" } });
            assert.equal(done.status(), 200);
        }
        await put("", { title: "<img src=x onerror=window.hit=1>", model: "tiny", leaf: `m${hostile.length - 1}` });
        await page.goto(`${address}/#/c/hostile`);
        await page.reload();
        await until("all is shown", async () => (await page.getByRole("article").count()) === hostile.length);
        const log = page.getByRole("log");
        for (const link of await log.getByRole("link").all()) {
            assert.match(await link.getAttribute("href"), /^https:\/\/example\.org\//);
            assert.equal(await link.getAttribute("rel"), "noopener noreferrer nofollow");
        }
        assert.equal(await log.locator("img, script, iframe, style, meta, b, form, object").count(), 0);
        assert.equal(await log.locator("tbody tr").count(), 3000);
        for (const target of await log.getByText(/^[abdefg]$/).all()) await target.click({ force: true });
        assert.equal(await page.evaluate(() => window.hit), undefined);
        assert.deepEqual(elsewhere, []);
        assert.deepEqual(wrong, []);
        await page.request.delete(`${address}/api/conversations/hostile`);
        await close();
    },

    async "markdown, code and formulas are set"() {
        const { page, wrong, close } = await open();
        const content = [
            "## Roots\n\nThe equation $x^2 = 2$ costs $5 and $6, **truly**. 汉字也可以。",
            "\\[ x = \\frac{-b \\pm \\sqrt{b^2 - 4ac}}{2a} \\]",
            '```rust\nfn main() {\n    println!("{}", 2.0_f64.sqrt());\n}\n```',
            "| n | root |\n|--:|:--|\n| 2 | 1.414 |\n| 3 | 1.732 |\n\n- [x] done\n- [ ] not yet\n\n1. one\n2. two",
        ].join("\n\n");
        const put = (path, data) => page.request.put(`${address}/api/conversations/set${path}`, { data });
        const head = { title: "Square roots", model: "tiny", leaf: "m1" };
        await put("", head);
        await put("/messages/m0", { parent: null, role: "user", content: "How do I take a root?" });
        await put("/messages/m1", { parent: "m0", role: "assistant", content, detail: { model: "tiny" } });
        await page.goto(`${address}/#/c/set`);
        await page.reload();
        const answer = answers(page);
        await answer.waitFor();
        assert.equal(await answer.locator("math").count(), 2);
        assert.equal(await answer.locator("math msqrt").count(), 1);
        assert.match(await answer.locator("p").first().textContent(), /costs \$5 and \$6/);
        assert.ok((await answer.locator("pre .hljs-keyword").count()) >= 1);
        assert.equal(await answer.locator("input[type=checkbox]:checked").count(), 1);
        await shot(page, "chat");
        await page.getByRole("combobox", { name: "Theme" }).selectOption("dark");
        await shot(page, "dark");
        assert.deepEqual(wrong, []);
        await close();
    },

    async "language and theme are remembered"() {
        const { page, wrong, close } = await open();
        const colour = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
        const light = await colour();
        await page.getByRole("combobox", { name: "Theme" }).selectOption("dark");
        assert.notEqual(await colour(), light);
        await page.getByRole("combobox", { name: "Language" }).selectOption("zh");
        await button(page, "新对话").waitFor();
        await page.reload();
        await button(page, "新对话").waitFor();
        assert.notEqual(await colour(), light);
        assert.equal(await page.evaluate(() => document.documentElement.lang), "zh-CN");
        assert.deepEqual(wrong, []);
        await close();
        const chinese = await open({ locale: "zh-CN", colorScheme: "dark" });
        await button(chinese.page, "新对话").waitFor();
        await chinese.close();
    },

    async "a phone"() {
        const { page, wrong, close } = await open({ viewport: { width: 375, height: 667 }, hasTouch: true });
        const wide = () => page.evaluate(() => document.documentElement.scrollWidth);
        await page.getByRole("textbox", { name: "Ask anything" }).fill("Where is the cat? ".repeat(10));
        await button(page, "Send").tap();
        await answers(page).waitFor();
        await idle(page);
        assert.equal(await wide(), 375);
        await shot(page, "phone");
        assert.ok(!(await page.getByRole("navigation").isVisible()));
        await button(page, "Menu").tap();
        await page.getByRole("link", { name: /Where is the cat/ }).first().waitFor();
        await button(page, "New chat").tap();
        await until("the menu closes", async () => !(await page.getByRole("navigation").isVisible()));
        await button(page, "Settings").tap();
        await page.getByRole("spinbutton", { name: "Seed" }).waitFor();
        assert.equal(await wide(), 375);
        await page.getByRole("spinbutton", { name: "Seed" }).press("Escape");
        await until("the settings close", async () => (await page.getByRole("spinbutton").count()) === 0);
        assert.deepEqual(wrong, []);
        await close();
    },

    async "training runs"() {
        const { page, wrong, close } = await open();
        await button(page, "Training runs").click();
        await page.getByText("120 / 120").waitFor();
        assert.equal(await page.locator("polyline").count(), 5);
        await page.getByText("<b>sample 120</b>").waitFor();
        await shot(page, "runs");
        assert.deepEqual(wrong, []);
        await close();
    },

    async "a server that isn't there any more"() {
        const { page, close } = await open();
        await page.route("**/v1/chat/completions", (route) => route.abort());
        await page.getByRole("textbox", { name: "Ask anything" }).fill("Hello?");
        await page.keyboard.press("Enter");
        await page.getByRole("alert").waitFor();
        await idle(page);
        await close();
    },
};

let failed = 0;
for (const [name, test] of Object.entries(tests)) {
    try {
        await test();
        console.log(`ok: ${name}`);
    } catch (error) {
        failed += 1;
        console.log(`FAILED: ${name}\n${error.stack}`);
    }
}
await browser.close();
process.exit(failed ? 1 : 0);
