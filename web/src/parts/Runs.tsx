// Training runs: how they go, while they go.

import { useEffect, useState } from "preact/hooks";
import { ApiError, ask, type Run, type RunEvent } from "../api";
import { go, report } from "../state";
import { say } from "../words";
import { Chart, type Curve, type Points, short } from "./Chart";

/** What is new is asked for so often. */
const EVERY_MS = 2000;

export function Runs({ id }: { id: string | null }) {
    const [runs, setRuns] = useState<Run[] | null>(null);
    useEffect(() => every(async () => setRuns((await ask<{ runs: Run[] }>("GET", "/api/runs")).runs)), []);
    const shown = runs?.find((run) => run.id === id) ?? runs?.[0];
    return (
        <main class="runs">
            <div class="scroller">
                <div class="column">
                    <h1>{say("runs")}</h1>
                    {runs && !runs.length && <p class="hint">{say("noRuns")}</p>}
                    {shown && runs && (
                        <select
                            aria-label={say("runs")}
                            value={shown.id}
                            onChange={(event) => go({ at: "runs", id: event.currentTarget.value })}
                        >
                            {runs.map((run) => (
                                <option key={run.id} value={run.id}>
                                    {run.name} – {new Date(run.updated).toLocaleString()}
                                </option>
                            ))}
                        </select>
                    )}
                    {shown && <OneRun key={shown.id} id={shown.id} />}
                </div>
            </div>
        </main>
    );
}

/** Does something again and again, until what is given back is called, or it fails. */
function every(work: () => Promise<void>): () => void {
    let timer: ReturnType<typeof setTimeout>;
    let isOver = false;
    const round = async () => {
        try {
            await work();
        } catch (error) {
            report(error);
            if (error instanceof ApiError) return;
        }
        if (!isOver) timer = setTimeout(round, EVERY_MS);
    };
    void round();
    return () => {
        isOver = true;
        clearTimeout(timer);
    };
}

function OneRun({ id }: { id: string }) {
    const [events, setEvents] = useState<RunEvent[]>([]);
    useEffect(() => {
        let from = 0;
        return every(async () => {
            for (let end = false; !end; ) {
                const path = `/api/runs/${id}?from=${from}`;
                const told = await ask<{ events: RunEvent[]; next: number; end: boolean }>("GET", path);
                // A run that was begun again starts from nothing.
                const isNew = told.next < from;
                if (told.events.length || isNew) {
                    setEvents((known) => (isNew ? told.events : [...known, ...told.events]));
                }
                from = told.next;
                end = told.end;
            }
        });
    }, [id]);
    if (!events.length) return <p class="hint">{say("waiting")}</p>;
    const steps = events.filter((event) => event.event === "step");
    const of = (kind: string, field: string): Points =>
        events.flatMap((event): Points => {
            const value = event[field];
            if (event.event !== kind || typeof value !== "number" || typeof event["step"] !== "number") return [];
            return [[event["step"], value]];
        });
    const training = of("step", "loss");
    const heldOut = of("eval", "val_loss");
    const last = steps.at(-1);
    const total = (events.findLast((event) => typeof event["steps"] === "number")?.["steps"] as number) ?? 0;
    const facts: [string, string][] = [
        [say("steps"), `${last?.["step"] ?? 0}${total ? ` / ${total}` : ""}`],
        [say("lastLoss"), training.length ? short(training.at(-1)![1]) : "–"],
        [say("lastHeldOut"), heldOut.length ? short(heldOut.at(-1)![1]) : "–"],
        [say("time"), `${Math.round((last?.["seconds"] as number) ?? 0)} s`],
    ];
    const samples = events.filter((event) => event.event === "sample" && typeof event["text"] === "string");
    return (
        <>
            <dl class="facts">
                {facts.map(([name, value]) => (
                    <div key={name}>
                        <dt>{name}</dt>
                        <dd>{value}</dd>
                    </div>
                ))}
            </dl>
            <Chart
                title={say("loss")}
                curves={[
                    { name: say("training"), points: training },
                    { name: say("heldOut"), points: heldOut },
                ]}
            />
            {metricsOf(events).map((curve) => (
                <Chart key={curve.name} title={curve.name} curves={[{ ...curve, name: say("heldOut") }]} />
            ))}
            <Chart title={say("rate")} curves={[{ name: "", points: of("step", "lr_factor") }]} />
            <Chart title={say("gradNorm")} curves={[{ name: "", points: of("step", "grad_norm") }]} />
            <Chart title={say("speed")} curves={[{ name: "", points: of("step", "tokens_per_second") }]} />
            {samples.length > 0 && <h2>{say("samples")}</h2>}
            {samples.reverse().map((sample, i) => (
                <figure class="sample" key={samples.length - i}>
                    <figcaption class="hint">
                        {say("step")} {String(sample["step"])}
                    </figcaption>
                    <p class="plain">{String(sample["text"])}</p>
                </figure>
            ))}
        </>
    );
}

/** What fine-tuning measures at each of its looks, each a curve. */
function metricsOf(events: RunEvent[]): Curve[] {
    const curves = new Map<string, Points>();
    for (const event of events) {
        if (event.event !== "look") continue;
        for (const [name, value] of Object.entries((event["metrics"] as object) ?? {})) {
            if (typeof value !== "number") continue;
            if (!curves.has(name)) curves.set(name, []);
            curves.get(name)!.push([event["step"] as number, value]);
        }
    }
    return [...curves].map(([name, points]) => ({ name, points }));
}
