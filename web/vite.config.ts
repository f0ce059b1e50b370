import { defineConfig } from "vite";

// Three files of fixed names, which the binary holds. During `vite`, requests go to a server on its usual port.
export default defineConfig({
    base: "./",
    build: {
        outDir: "../crates/serve/page",
        emptyOutDir: true,
        modulePreload: false,
        target: "es2022",
        rollupOptions: {
            output: {
                codeSplitting: false,
                entryFileNames: "page.js",
                assetFileNames: "page[extname]",
            },
        },
    },
    server: { proxy: { "/v1": "http://127.0.0.1:8080", "/api": "http://127.0.0.1:8080" } },
});
