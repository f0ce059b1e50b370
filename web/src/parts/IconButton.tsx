// A button with a picture, whose name is read aloud and shown when one points at it.

/** Strokes on a square of 24 units. */
const icons = {
    menu: "M4 7h16M4 12h16M4 17h16",
    plus: "M12 5v14M5 12h14",
    settings: "M4 8h9M17 8h3M4 16h3M11 16h9M15 6v4M9 14v4",
    close: "M6 6l12 12M18 6L6 18",
    copy: "M9 9h10v11H9zM6 15H5V4h10v1",
    done: "M5 13l4 4L19 7",
    edit: "M4 20h4L19 9l-4-4L4 16zM13 7l4 4",
    again: "M20 12a8 8 0 1 1-2.3-5.7M20 3v4h-4",
    left: "M15 6l-6 6 6 6",
    right: "M9 6l6 6-6 6",
    send: "M12 19V6M6 12l6-6 6 6",
    stop: "M7 7h10v10H7z",
    look: "M3 12s3.5-6 9-6 9 6 9 6-3.5 6-9 6-9-6-9-6zM12 9.5a2.5 2.5 0 1 1 0 5 2.5 2.5 0 0 1 0-5z",
    remove: "M5 7h14M10 7V5h4v2M7 7l1 13h8l1-13M10 11v5M14 11v5",
    curve: "M4 4v16h16M7 9c2 6 5 7 12 7",
};

export type Icon = keyof typeof icons;

interface Props {
    icon: Icon;
    label: string;
    onClick?: () => void;
    disabled?: boolean;
    pressed?: boolean;
    class?: string;
    type?: "button" | "submit";
}

export function Picture({ icon }: { icon: Icon }) {
    return (
        <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
            <path d={icons[icon]} />
        </svg>
    );
}

export function IconButton({ icon, label, onClick, disabled, pressed, type = "button", ...props }: Props) {
    return (
        <button
            type={type}
            class={`icon-button ${props.class ?? ""}`}
            aria-label={label}
            aria-pressed={pressed}
            title={label}
            disabled={disabled}
            onClick={onClick}
        >
            <Picture icon={icon} />
        </button>
    );
}
