// The words of the page, in English and Chinese.

import { computed, signal } from "@preact/signals";
import { remember, remembered } from "./storage";

const en = {
    name: "English",
    newChat: "New chat",
    search: "Search conversations",
    searchShort: "Search (Ctrl K)",
    conversations: "Conversations",
    noConversations: "What you talk about is kept here.",
    notKept: "This server keeps no conversations: they are gone when you leave the page.",
    nothingFound: "Nothing found.",
    more: "More",
    runs: "Training runs",
    chat: "Chat",
    menu: "Menu",
    settings: "Settings",
    close: "Close",
    model: "Model",
    noModel: "No model that writes text is served here.",
    completes: "This model continues texts. It wasn't made to talk.",
    system: "System prompt",
    systemHint: "What the model should know or be in this conversation",
    temperature: "Temperature",
    temperatureHint: "0 always takes the likeliest token",
    topP: "Top p",
    topPHint: "Only the likeliest tokens that together reach this probability",
    topK: "Top k",
    topKHint: "Only so many of the likeliest tokens",
    maxTokens: "Longest answer, in tokens",
    seed: "Seed",
    seedHint: "The same seed gives the same answer",
    usual: "usual",
    language: "Language",
    theme: "Theme",
    auto: "As the system",
    light: "Light",
    dark: "Dark",
    ask: "Ask anything",
    begin: "Begin a text",
    send: "Send",
    stop: "Stop",
    you: "You",
    copy: "Copy",
    copied: "Copied",
    edit: "Edit",
    cancel: "Cancel",
    again: "Answer again",
    rename: "Rename",
    remove: "Delete",
    removeSure: "Delete this conversation?",
    look: "Look inside",
    lookHint: "Choose a token to see what else could have stood there. Arrow keys move.",
    shown: "shown",
    otherTokens: "other tokens",
    previous: "Previous version",
    next: "Next version",
    version: "Version {0} of {1}",
    stopped: "Stopped",
    cut: "The answer reached its longest length",
    perSecond: "{0} tokens/s",
    tokens: "{0} tokens",
    answering: "Answering",
    answered: "The answer is complete",
    hello: "What shall we talk about?",
    keyNeeded: "This server needs a key",
    key: "Key",
    enter: "Enter",
    offline: "The server doesn't answer.",
    untitled: "Untitled",
    noRuns: "No training run was found where this server looks. Give it a folder: hearth serve … --runs DIR",
    waiting: "Nothing has been written yet.",
    loss: "Loss",
    training: "training",
    heldOut: "held-out",
    rate: "Learning rate, as a share of its peak",
    speed: "Tokens a second",
    gradNorm: "Gradient norm",
    step: "step",
    samples: "Samples",
    steps: "Steps",
    lastLoss: "Training loss",
    lastHeldOut: "Held-out loss",
    time: "Time",
    image: "image",
};

/** A word of the page. */
export type Word = keyof typeof en;

const zh: Record<Word, string> = {
    name: "中文",
    newChat: "新对话",
    search: "搜索对话",
    searchShort: "搜索 (Ctrl K)",
    conversations: "对话",
    noConversations: "对话会保存在这里。",
    notKept: "此服务器不保存对话：离开页面后对话即消失。",
    nothingFound: "没有找到。",
    more: "更多",
    runs: "训练记录",
    chat: "对话",
    menu: "菜单",
    settings: "设置",
    close: "关闭",
    model: "模型",
    noModel: "这里没有能写文本的模型。",
    completes: "此模型用于续写文本，并未针对对话训练。",
    system: "系统提示词",
    systemHint: "模型在本次对话中应当了解的内容或扮演的角色",
    temperature: "温度",
    temperatureHint: "为 0 时总是选择概率最高的词元",
    topP: "Top p",
    topPHint: "只考虑概率之和达到此值的最可能词元",
    topK: "Top k",
    topKHint: "只考虑这么多个最可能的词元",
    maxTokens: "回答的最大词元数",
    seed: "随机种子",
    seedHint: "相同的种子给出相同的回答",
    usual: "默认",
    language: "语言",
    theme: "主题",
    auto: "跟随系统",
    light: "浅色",
    dark: "深色",
    ask: "请输入问题",
    begin: "请写下开头",
    send: "发送",
    stop: "停止",
    you: "你",
    copy: "复制",
    copied: "已复制",
    edit: "编辑",
    cancel: "取消",
    again: "重新回答",
    rename: "重命名",
    remove: "删除",
    removeSure: "删除这个对话？",
    look: "查看内部",
    lookHint: "选择一个词元，查看该处其他可能的词元。可用方向键移动。",
    shown: "已选",
    otherTokens: "其他词元",
    previous: "上一版本",
    next: "下一版本",
    version: "第 {0} 版，共 {1} 版",
    stopped: "已停止",
    cut: "回答达到最大长度",
    perSecond: "每秒 {0} 个词元",
    tokens: "{0} 个词元",
    answering: "正在回答",
    answered: "回答完成",
    hello: "想聊些什么？",
    keyNeeded: "此服务器需要密钥",
    key: "密钥",
    enter: "进入",
    offline: "服务器没有响应。",
    untitled: "无标题",
    noRuns: "在服务器查找的位置没有训练记录。可以指定文件夹：hearth serve … --runs DIR",
    waiting: "还没有写入任何内容。",
    loss: "损失",
    training: "训练",
    heldOut: "验证",
    rate: "学习率（占峰值的比例）",
    speed: "每秒词元数",
    gradNorm: "梯度范数",
    step: "步",
    samples: "样例",
    steps: "步数",
    lastLoss: "训练损失",
    lastHeldOut: "验证损失",
    time: "用时",
    image: "图片",
};

const languages = { en, zh };

/** A language that the page has. */
export type Language = keyof typeof languages;

/** Their names, each in itself. */
export const languageNames: [Language, string][] = [
    ["en", en.name],
    ["zh", zh.name],
];

const usual = navigator.language.startsWith("zh") ? "zh" : "en";

/** The language that is shown. */
export const language = signal<Language>(remembered("language", ["en", "zh"]) ?? usual);

/** Chooses a language. */
export function setLanguage(chosen: Language): void {
    language.value = chosen;
    remember("language", chosen);
}

const words = computed(() => languages[language.value]);

/** A word in the language that is shown, with its gaps filled. */
export function say(word: Word, ...gaps: (string | number)[]): string {
    return gaps.reduce<string>((text, gap, i) => text.replace(`{${i}}`, String(gap)), words.value[word]);
}
