// Server-sent events over fetch, which can carry a log-in where EventSource cannot. A stream that breaks is
// taken up again after its last event; one that keeps breaking is polled instead.

export interface ServerEvent {
  id: string;
  event: string;
  data: string;
}

/** Feeds text in any pieces, gives whole events. */
export function eventParser(): (text: string) => ServerEvent[] {
  let rest = '';
  let id = '';
  let event = '';
  let data: string[] = [];
  return (text) => {
    const found: ServerEvent[] = [];
    rest += text;
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop() ?? '';
    for (const line of lines) {
      if (line === '') {
        if (data.length > 0 || event !== '')
          found.push({ id, event: event === '' ? 'message' : event, data: data.join('\n') });
        event = '';
        data = [];
        continue;
      }
      const colon = line.indexOf(':');
      if (colon === 0) continue;
      const name = colon === -1 ? line : line.slice(0, colon);
      const value = colon === -1 ? '' : line.slice(colon + 1).replace(/^ /, '');
      if (name === 'data') data.push(value);
      else if (name === 'event') event = value;
      else if (name === 'id') id = value;
    }
    return found;
  };
}

export interface Following {
  /** Opens the stream behind the event of this id; rejects when it cannot be had. */
  open: (lastId: string, signal: AbortSignal) => Promise<Response>;
  onEvent: (event: ServerEvent) => void;
  /** Reads the same without a stream; answers true once nothing more will come. */
  poll: (signal: AbortSignal) => Promise<boolean>;
  /** `live` while a stream is open, `polling` when it is asked now and then. */
  onMode?: (mode: 'live' | 'polling' | 'ended') => void;
  signal: AbortSignal;
  pauseMs?: (ms: number) => Promise<void>;
}

const ATTEMPTS_BEFORE_POLLING = 3;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5_000;

/** Follows until the stream says `end`, polling says so, or the signal is aborted. */
export async function follow(following: Following): Promise<void> {
  const { signal, onMode } = following;
  const pause = following.pauseMs ?? ((ms: number) => new Promise<void>((done) => setTimeout(done, ms)));
  let lastId = '';
  let broken = 0;
  while (!signal.aborted) {
    if (broken >= ATTEMPTS_BEFORE_POLLING) {
      onMode?.('polling');
      try {
        if (await following.poll(signal)) break;
      } catch {
        if (isOver(signal)) return;
      }
      broken = ATTEMPTS_BEFORE_POLLING - 1; // then one more attempt at a stream
    }
    let heard = false;
    try {
      const response = await following.open(lastId, signal);
      onMode?.('live');
      for await (const event of eventsOf(response)) {
        heard = true;
        if (event.id !== '') lastId = event.id;
        following.onEvent(event);
        if (event.event === 'end') {
          onMode?.('ended');
          return;
        }
      }
    } catch {
      if (isOver(signal)) return;
    }
    broken = heard ? 1 : broken + 1;
    await pause(Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (broken - 1)));
  }
  if (!signal.aborted) onMode?.('ended');
}

/** Asked anew: it may have been aborted while something was awaited. */
function isOver(signal: AbortSignal): boolean {
  return signal.aborted;
}

async function* eventsOf(response: Response): AsyncGenerator<ServerEvent> {
  if (response.body === null) return;
  const parse = eventParser();
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* parse(decoder.decode(value, { stream: true }));
    }
  } finally {
    void reader.cancel().catch(() => undefined);
  }
}
