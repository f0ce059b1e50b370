// Curves over the steps of a run.

import { useState } from "preact/hooks";
import { say } from "../words";

/** Steps and values. */
export type Points = [step: number, value: number][];

export interface Curve {
    name: string;
    points: Points;
}

const WIDTH = 640;
const HEIGHT = 240;
const LEFT = 52;
const BOTTOM = 24;
const TOP = 10;
const RIGHT = 12;
/** More points than this can't be told apart. */
const MOST_POINTS = 400;

/** Neighbouring points as their mean, so that few are left. */
export function thinned(points: Points): Points {
    if (points.length <= MOST_POINTS) return points;
    const size = points.length / MOST_POINTS;
    return Array.from({ length: MOST_POINTS }, (_, i) => {
        const part = points.slice(Math.floor(i * size), Math.floor((i + 1) * size));
        const mean = part.reduce((sum, [, value]) => sum + value, 0) / part.length;
        return [part.at(-1)![0], mean];
    });
}

/** Round numbers between two, about five of them. */
export function ticks(from: number, to: number): number[] {
    const rough = (to - from) / 5;
    if (!(rough > 0)) return [from];
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((times) => times * power).find((step) => step >= rough)!;
    const first = Math.ceil(from / step);
    const count = Math.floor(to / step + 1e-9) - first;
    return Array.from({ length: count + 1 }, (_, i) => (first + i) * step);
}

/** A number in a few letters. */
export function short(value: number): string {
    if (Math.abs(value) >= 10_000) return value.toLocaleString("en", { notation: "compact" });
    return String(Number(value.toPrecision(4)));
}

export function Chart({ title, curves }: { title: string; curves: Curve[] }) {
    const [at, setAt] = useState<number | null>(null);
    const drawn = curves.filter((curve) => curve.points.length);
    const all = drawn.flatMap((curve) => curve.points);
    if (!all.length) return null;
    const steps = all.map(([step]) => step);
    const values = all.map(([, value]) => value);
    const least = (numbers: number[]) => numbers.reduce((a, b) => Math.min(a, b));
    const most = (numbers: number[]) => numbers.reduce((a, b) => Math.max(a, b));
    const [left, right] = [least(steps), Math.max(most(steps), least(steps) + 1)];
    const [low, high] = [least(values), most(values)];
    const margin = (high - low) * 0.05 || Math.abs(high) * 0.05 || 1;
    const [bottom, top] = [low - margin, high + margin];
    const x = (step: number) => LEFT + ((step - left) / (right - left)) * (WIDTH - LEFT - RIGHT);
    const y = (value: number) => HEIGHT - BOTTOM - ((value - bottom) / (top - bottom)) * (HEIGHT - BOTTOM - TOP);
    const nearest = (points: Points, step: number) =>
        points.reduce((best, point) => (Math.abs(point[0] - step) < Math.abs(best[0] - step) ? point : best));
    const pointed = at === null ? null : drawn.map((curve) => nearest(curve.points, at));
    return (
        <figure class="chart">
            <figcaption>
                <strong>{title}</strong>
                {drawn.map((curve, i) => {
                    const [step, value] = pointed?.[i] ?? curve.points.at(-1)!;
                    return (
                        <span key={curve.name} class={`legend curve-${i}`}>
                            {curve.name} {short(value)} <small>({`${say("step")} ${step}`})</small>
                        </span>
                    );
                })}
            </figcaption>
            <svg
                viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
                role="img"
                aria-label={title}
                onPointerMove={({ currentTarget, clientX }) => {
                    const box = currentTarget.getBoundingClientRect();
                    const inside = ((clientX - box.left) / box.width) * WIDTH;
                    const share = (inside - LEFT) / (WIDTH - LEFT - RIGHT);
                    setAt(left + Math.max(0, Math.min(1, share)) * (right - left));
                }}
                onPointerLeave={() => setAt(null)}
            >
                {ticks(bottom, top).map((value) => (
                    <g key={value} class="tick">
                        <line x1={LEFT} x2={WIDTH - RIGHT} y1={y(value)} y2={y(value)} />
                        <text x={LEFT - 6} y={y(value) + 4} class="ends">
                            {short(value)}
                        </text>
                    </g>
                ))}
                {ticks(left, right).map((step) => (
                    <text key={step} x={x(step)} y={HEIGHT - 6} class="centred">
                        {short(step)}
                    </text>
                ))}
                {drawn.map((curve, i) => (
                    <polyline
                        key={curve.name}
                        class={`curve-${i}`}
                        points={thinned(curve.points)
                            .map(([step, value]) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`)
                            .join(" ")}
                    />
                ))}
                {pointed?.map(([step, value], i) => (
                    <circle key={i} class={`curve-${i}`} cx={x(step)} cy={y(value)} r={3.5} />
                ))}
            </svg>
        </figure>
    );
}
