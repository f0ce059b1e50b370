// Where the page begins.

import { effect } from "@preact/signals";
import { render } from "preact";
import { App } from "./parts/App";
import "./page.css";
import { current, loadInfo, place, placeOf, theme } from "./state";
import { language, say } from "./words";

addEventListener("popstate", () => (place.value = placeOf(location.hash)));
addEventListener("hashchange", () => (place.value = placeOf(location.hash)));
effect(() => {
    document.documentElement.dataset["theme"] = theme.value;
    document.documentElement.lang = language.value === "zh" ? "zh-CN" : "en";
});
effect(() => {
    const title = place.value.at === "runs" ? say("runs") : current.value?.title;
    document.title = title ? `${title} – Hearth` : "Hearth";
});
render(<App />, document.getElementById("page")!);
void loadInfo();
