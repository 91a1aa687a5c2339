// What was spent on which day or in which hour, and on what, out of the backend's sums. Pure.

import type { Schemas } from '~/lib/api';

export interface Period {
  key: string;
  startMs: number;
  calls: number;
  callCharge: bigint;
  tasks: number;
  taskCharge: bigint;
}

type SummaryRow = Schemas['SummaryRow'];

export function periodsOf(by: 'hour' | 'day', untilMs: number, count: number): Period[] {
  const starts: number[] = [];
  const at = new Date(untilMs);
  if (by === 'hour') at.setMinutes(0, 0, 0);
  else at.setHours(0, 0, 0, 0);
  for (let index = 0; index < count; index += 1) {
    starts.unshift(at.getTime());
    // Days by the calendar: one of 23 or 25 hours is a day, too.
    if (by === 'hour') at.setTime(at.getTime() - 3_600_000);
    else at.setDate(at.getDate() - 1);
  }
  return starts.map((startMs) => ({
    key: startMs.toString(),
    startMs,
    calls: 0,
    callCharge: 0n,
    tasks: 0,
    taskCharge: 0n,
  }));
}

export function addUp(periods: readonly Period[], rows: readonly SummaryRow[]): Period[] {
  const found = periods.map((period) => ({ ...period }));
  for (const row of rows) {
    const period = found.findLast((one) => one.startMs <= row.start_ms);
    if (period === undefined) continue;
    if (row.kind === 'task') {
      period.tasks += row.tasks ?? 0;
      period.taskCharge += BigInt(row.charge);
    } else {
      period.calls += row.completed;
      period.callCharge += BigInt(row.charge);
    }
  }
  return found;
}

export type Group = 'app' | 'gpu' | 'provider' | 'key';

export interface Sum {
  /** Of what it is grouped by; empty where there is none, as a task has no app. */
  name: string;
  calls: number;
  tasks: number;
  gpuMs: number;
  charge: bigint;
}

/** Most expensive first. */
export function sumBy(rows: readonly SummaryRow[], group: Group): Sum[] {
  const sums = new Map<string, Sum>();
  for (const row of rows) {
    const name =
      { app: row.app_id, gpu: row.gpu_class, provider: row.provider, key: row.key_id }[group] ?? '';
    const sum = sums.get(name) ?? { name, calls: 0, tasks: 0, gpuMs: 0, charge: 0n };
    sum.calls += row.kind === 'task' ? 0 : row.completed;
    sum.tasks += row.tasks ?? 0;
    sum.gpuMs += row.gpu_ms;
    sum.charge += BigInt(row.charge);
    sums.set(name, sum);
  }
  return [...sums.values()].sort((one, other) =>
    one.charge === other.charge ? 0 : one.charge > other.charge ? -1 : 1,
  );
}
