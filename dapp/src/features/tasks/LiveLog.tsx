import { useEffect, useRef, useState } from 'react';
import { Card, Tag } from '~/components/parts';
import { ask, client, fetchRaw, type Schemas } from '~/lib/api';
import { useT } from '~/lib/i18n';
import { follow } from '~/lib/sse';
import type { Task } from './queries';

type Line = Schemas['LogLine'];
const MOST_LINES = 2_000;
const WRITES = new Set(['ordered', 'funded', 'leased', 'running', 'orphaned']);

/** What the task writes, as it comes; over again after the backend restarts, and no line twice. */
export function LiveLog({ task }: { task: Task }) {
  const t = useT();
  const [lines, setLines] = useState<readonly Line[]>([]);
  const [mode, setMode] = useState<'live' | 'polling' | 'ended'>('live');
  const box = useRef<HTMLDivElement>(null);
  const writes = WRITES.has(task.state);
  const stillWrites = useRef(writes);
  useEffect(() => {
    stillWrites.current = writes;
  }, [writes]);

  useEffect(() => {
    const stop = new AbortController();
    let last = 0;
    const take = (found: readonly Line[]) => {
      const fresh = found.filter((line) => line.id > last);
      if (fresh.length === 0) return;
      last = fresh.at(-1)?.id ?? last;
      setLines((before) => [...before, ...fresh].slice(-MOST_LINES));
    };
    void follow({
      signal: stop.signal,
      open: (lastId, signal) => {
        const from = lastId === '' ? (last === 0 ? '' : last.toString()) : lastId;
        const headers = { Accept: 'text/event-stream', ...(from === '' ? {} : { 'Last-Event-ID': from }) };
        return fetchRaw(`/v1/tasks/${task.id}/logs/stream`, { headers, signal });
      },
      onEvent: (event) => {
        if (event.event === 'end') return;
        const line = readLine(event.data);
        if (line !== null) take([line]);
      },
      poll: async () => {
        const over = !stillWrites.current;
        for (;;) {
          const query = { limit: 500, ...(last === 0 ? {} : { cursor: last.toString() }) };
          const path = { task_id: task.id };
          const page = await ask(client.GET('/v1/tasks/{task_id}/logs', { params: { path, query } }));
          take(page.items);
          if (page.next_cursor == null || page.items.length === 0) return over;
        }
      },
      onMode: setMode,
    });
    return () => {
      stop.abort();
      setLines([]);
    };
  }, [task.id]);

  useEffect(() => {
    const element = box.current;
    if (element !== null) element.scrollTop = element.scrollHeight;
  }, [lines]);

  return (
    <Card
      title={t('log.title')}
      action={
        <Tag tone={mode === 'live' ? 'busy' : 'plain'}>
          {mode === 'live' ? t('log.live') : mode === 'polling' ? t('log.polling') : t('log.ended')}
        </Tag>
      }
    >
      <div ref={box} className="log" role="log" aria-label={t('log.title')} tabIndex={0}>
        {lines.length === 0 ? (
          <span className="log-system">{writes ? t('log.waiting') : t('log.empty')}</span>
        ) : (
          lines.map((line) => (
            <span key={line.id} className={`log-${line.stream}`}>
              {line.text}
              {line.text.endsWith('\n') ? '' : '\n'}
            </span>
          ))
        )}
      </div>
    </Card>
  );
}

function readLine(data: string): Line | null {
  try {
    const line = JSON.parse(data) as Partial<Line>;
    return typeof line.id === 'number' && typeof line.text === 'string' ? (line as Line) : null;
  } catch {
    return null;
  }
}
