// What the cards of a task read, as series and in the end. Pure.

import type { LinePoint } from '~/components/charts';
import type { Schemas } from '~/lib/api';

export type Sample = Schemas['TaskSample'];
export type Reading = 'utilization_percent' | 'memory_used_mib' | 'power_mw' | 'temperature_c';

/** The mean (or sum) over the task's cards at each time; null where no card gave a reading. */
export function seriesOf(samples: readonly Sample[], reading: Reading): (LinePoint | null)[] {
  const adds = reading === 'power_mw' || reading === 'memory_used_mib';
  return samples.map((sample) => {
    const values = sample.gpus
      .map((gpu) => gpu[reading])
      .filter((value) => value !== null && value !== undefined);
    if (values.length === 0) return null;
    const sum = values.reduce((total, value) => total + value, 0);
    return { atMs: sample.at_ms, value: adds ? sum : sum / values.length };
  });
}

export function hasReading(series: readonly (LinePoint | null)[]): boolean {
  return series.some((point) => point !== null);
}
