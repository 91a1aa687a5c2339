/**
 * Two custom elements for any page:
 *
 *   <script type="module" src="https://market.example.org/embed/tallystick.js"></script>
 *   <tallystick-task task="0x..."></tallystick-task>
 *   <tallystick-gpu gpu-class="h100"></tallystick-gpu>
 *
 * Attributes of both: `src`, the market's address (by default where this script came from), `lang`
 * (en or zh, by default the page's), `every`, seconds between looks (by default 15, at least 5).
 *
 * Nothing is loaded but public facts, nothing is stored, no cookie or credential is sent. Text from
 * the market is set as text, never as markup. Colours, font and size are the page's; parts can be
 * styled by `::part(box)`, `::part(state)`, `::part(price)`.
 */

type Language = "en" | "zh";

interface Task {
  id: string;
  state: string;
  provider: string | null;
  max_charge: string;
  charge: string;
  end: string | number;
  block: number;
  token_symbol: string;
  token_decimals: number;
}

interface GpuRow {
  gpu_class: string;
  model: string;
  memory_mib: number;
  simulated: boolean;
  providers: number;
  cards: number;
  cards_free: number;
  min_rate: string;
  median_rate: string;
  max_rate: string;
}

interface Gpus {
  at_ms: number;
  items: GpuRow[];
  token_symbol: string;
  token_decimals: number;
}

const WORDS = {
  en: {
    task: "Task",
    charge: "Charge",
    ceiling: "At most",
    provider: "Provider",
    none: "No cards of this kind are offered now.",
    perHour: "per GPU-hour",
    free: "free",
    of: "of",
    from: "from",
    median: "median",
    simulated: "simulated",
    loading: "Asking the market…",
    unknown: "The market knows no such task.",
    silent: "The market does not answer. Trying again.",
    missing: "Name a task: task=\"0x…\"",
    states: {
      open: "open",
      proven: "proven",
      disputed: "disputed",
      settled: "settled",
      refunded: "refunded",
      orphaned: "taken back by the chain",
    },
  },
  zh: {
    task: "任务",
    charge: "费用",
    ceiling: "上限",
    provider: "提供者",
    none: "目前没有这类显卡可用。",
    perHour: "每 GPU 小时",
    free: "空闲",
    of: "共",
    from: "最低",
    median: "中位价",
    simulated: "模拟",
    loading: "正在查询市场…",
    unknown: "市场中没有这个任务。",
    silent: "市场没有响应，正在重试。",
    missing: "请指定任务：task=\"0x…\"",
    states: {
      open: "进行中",
      proven: "已证明",
      disputed: "争议中",
      settled: "已结算",
      refunded: "已退款",
      orphaned: "已被链回滚",
    },
  },
} as const;

const STYLE = `
  :host { display: inline-block; font: inherit; color: inherit; }
  .box { border: 1px solid currentColor; border-radius: 8px; padding: 0.75em 1em; min-width: 14em; }
  .head { display: flex; justify-content: space-between; gap: 1em; font-weight: 600; }
  dl { display: grid; grid-template-columns: auto 1fr; gap: 0.15em 1em; margin: 0.5em 0 0; }
  dt { opacity: 0.75; } dd { margin: 0; text-align: end; font-variant-numeric: tabular-nums; }
  p { margin: 0.5em 0 0; }
`;

const OWN_ORIGIN = new URL(import.meta.url).origin;

/** Without floating point; cut where it is long, and never down to nothing. */
export function amount(units: bigint, decimals: number, places = 6): string {
  const one = 10n ** BigInt(decimals);
  const whole = (units / one).toString();
  let rest = (units % one).toString().padStart(decimals, "0");
  const first = rest.search(/[1-9]/);
  // As many places as asked for, and more where the first digit would fall out of them.
  rest = rest.slice(0, Math.max(places, first === -1 ? 0 : first + 2)).replace(/0+$/, "");
  return rest === "" ? whole : `${whole}.${rest}`;
}

class Refused extends Error {
  constructor(readonly status: number) {
    super(`answered with ${status}`);
  }
}

abstract class MarketElement<Answer> extends HTMLElement {
  readonly #root: ShadowRoot;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #asking: AbortController | undefined;
  #shown: Answer | undefined;

  constructor() {
    super();
    this.#root = this.attachShadow({ mode: "open" });
    // A sheet of its own: pages that forbid inline styles show it just the same.
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    this.#root.adoptedStyleSheets = [sheet];
  }

  /** What to ask for, below the market's address; undefined while an attribute is missing. */
  abstract path(): string | undefined;
  abstract draw(answer: Answer): Node[];
  /** What a 404 means here. */
  abstract unknown(): string;

  get words(): (typeof WORDS)[Language] {
    const tag = this.getAttribute("lang") ?? document.documentElement.lang;
    return WORDS[tag.toLowerCase().startsWith("zh") ? "zh" : "en"];
  }

  connectedCallback(): void {
    void this.#look();
  }

  disconnectedCallback(): void {
    clearTimeout(this.#timer);
    this.#asking?.abort();
  }

  attributeChangedCallback(): void {
    if (this.isConnected) {
      this.disconnectedCallback();
      this.#shown = undefined;
      void this.#look();
    }
  }

  async #look(): Promise<void> {
    const path = this.path();
    if (path === undefined) {
      this.#show([text("p", this.words.missing)]);
      return;
    }
    const asking = (this.#asking = new AbortController());
    if (this.#shown === undefined) this.#show([text("p", this.words.loading)]);
    try {
      const base = new URL(this.getAttribute("src") ?? OWN_ORIGIN, document.baseURI);
      const reply = await fetch(new URL(path, base), {
        credentials: "omit",
        referrerPolicy: "no-referrer",
        signal: asking.signal,
      });
      if (!reply.ok) throw new Refused(reply.status);
      this.#shown = (await reply.json()) as Answer;
      if (asking.signal.aborted) return;
      this.#show(this.draw(this.#shown));
    } catch (error) {
      if (asking.signal.aborted) return;
      const gone = error instanceof Refused && error.status === 404;
      const said = text("p", gone ? this.unknown() : this.words.silent);
      said.setAttribute("role", "status");
      this.#show(this.#shown === undefined ? [said] : [...this.draw(this.#shown), said]);
    }
    const seconds = Number(this.getAttribute("every") ?? 15);
    const pause = Number.isFinite(seconds) ? Math.max(5, seconds) : 15;
    this.#timer = setTimeout(() => void this.#look(), pause * 1000);
  }

  #show(nodes: Node[]): void {
    const box = document.createElement("div");
    box.className = "box";
    box.setAttribute("part", "box");
    box.append(...nodes);
    this.#root.replaceChildren(box);
  }
}

class TallystickTask extends MarketElement<Task> {
  static readonly observedAttributes = ["task", "src", "lang", "every"];

  path(): string | undefined {
    const id = this.getAttribute("task")?.toLowerCase() ?? "";
    return /^0x[0-9a-f]{64}$/.test(id) ? `/v1/embed/tasks/${id}` : undefined;
  }

  unknown(): string {
    return this.words.unknown;
  }

  draw(task: Task): Node[] {
    const words = this.words;
    const states: Record<string, string> = words.states;
    const shown = (units: string): string =>
      `${amount(BigInt(units), task.token_decimals)} ${task.token_symbol}`;
    const charged = task.state === "open" ? "0" : task.charge;
    const rows: [string, string][] = [
      [words.charge, shown(charged)],
      [words.ceiling, shown(task.max_charge)],
    ];
    if (task.provider !== null) rows.push([words.provider, short(task.provider)]);
    const state = text("span", states[task.state] ?? task.state);
    state.setAttribute("part", "state");
    return [head(text("span", `${words.task} ${short(task.id)}`), state), list(rows)];
  }
}

class TallystickGpu extends MarketElement<Gpus> {
  static readonly observedAttributes = ["gpu-class", "src", "lang", "every"];

  path(): string {
    const wanted = this.getAttribute("gpu-class");
    return `/v1/embed/gpus${wanted === null ? "" : `?gpu_class=${encodeURIComponent(wanted)}`}`;
  }

  unknown(): string {
    return this.words.none;
  }

  draw(gpus: Gpus): Node[] {
    const words = this.words;
    if (gpus.items.length === 0) return [text("p", words.none)];
    return gpus.items.flatMap((row) => {
      const hour = (rate: string): string =>
        `${amount(BigInt(rate) * 3600n, gpus.token_decimals, 4)} ${gpus.token_symbol}`;
      const price = text("span", `${hour(row.median_rate)}`);
      price.setAttribute("part", "price");
      price.title = `${words.median}, ${words.perHour}`;
      const name = `${row.model} · ${Math.round(row.memory_mib / 1024)} GiB`;
      const label = row.simulated ? `${name} (${words.simulated})` : name;
      return [
        head(text("span", label), price),
        list([
          [words.perHour, `${words.from} ${hour(row.min_rate)}`],
          [words.free, `${row.cards_free} ${words.of} ${row.cards}`],
        ]),
      ];
    });
  }
}

function text(name: "p" | "span" | "dt" | "dd", value: string): HTMLElement {
  const element = document.createElement(name);
  element.textContent = value;
  return element;
}

function head(...parts: HTMLElement[]): HTMLElement {
  const element = document.createElement("div");
  element.className = "head";
  element.append(...parts);
  return element;
}

function list(rows: [string, string][]): HTMLElement {
  const element = document.createElement("dl");
  for (const [name, value] of rows) element.append(text("dt", name), text("dd", value));
  return element;
}

function short(id: string): string {
  return `${id.slice(0, 8)}…${id.slice(-4)}`;
}

if (!customElements.get("tallystick-task")) customElements.define("tallystick-task", TallystickTask);
if (!customElements.get("tallystick-gpu")) customElements.define("tallystick-gpu", TallystickGpu);
