// What was spent on which day or in which hour: calls as the backend sums them, tasks by their receipts. Pure.

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
type Task = Schemas['TaskBody'];

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

export function addUp(
  periods: readonly Period[],
  rows: readonly SummaryRow[],
  tasks: readonly Task[],
): Period[] {
  const found = periods.map((period) => ({ ...period }));
  const at = (ms: number) => found.findLast((period) => period.startMs <= ms);
  for (const row of rows) {
    const period = at(row.start_ms);
    if (period === undefined) continue;
    period.calls += row.completed;
    period.callCharge += BigInt(row.charge);
  }
  for (const task of tasks) {
    if (task.charge === null || task.charge === undefined) continue;
    const period = at(task.created_at_ms);
    if (period === undefined) continue;
    period.tasks += 1;
    period.taskCharge += BigInt(task.charge);
  }
  return found;
}
