// What a task's state means to a person: its colour, and how far along the way it is.

import type { Tone } from '~/components/parts';
import type { MessageKey } from '~/lib/i18n';

const TONES: Record<string, Tone> = {
  ordered: 'plain',
  funded: 'plain',
  leased: 'busy',
  running: 'busy',
  finished: 'busy',
  proven: 'busy',
  disputed: 'warn',
  settled: 'good',
  refunded: 'warn',
  cancelled: 'plain',
  failed: 'bad',
  orphaned: 'warn',
};

export function toneOf(state: string): Tone {
  return TONES[state] ?? 'plain';
}

export type StateKey = Extract<MessageKey, `task.state.${string}`>;

const STATES = new Set(Object.keys(TONES));

export function stateKey(state: string): StateKey {
  return (STATES.has(state) ? `task.state.${state}` : 'task.state.unknown') as StateKey;
}

export const STEPS = ['queued', 'starting', 'running', 'settling', 'paid'] as const;
export type Step = (typeof STEPS)[number];

/** Which of the five steps a state belongs to; null where the way ended early. */
export function stepOf(state: string): Step | null {
  switch (state) {
    case 'ordered':
    case 'funded':
    case 'orphaned':
      return 'queued';
    case 'leased':
      return 'starting';
    case 'running':
      return 'running';
    case 'finished':
    case 'proven':
    case 'disputed':
      return 'settling';
    case 'settled':
      return 'paid';
    default:
      return null;
  }
}

export const OVER = new Set(['settled', 'refunded', 'cancelled', 'failed']);
