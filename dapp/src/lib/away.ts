// Whether the backend answered when it was last asked. Pages go on showing what they know; this says how old it is.

import { useSyncExternalStore } from 'react';

let away = false;
const listeners = new Set<() => void>();

export function noteAnswer(answered: boolean): void {
  if (away === !answered) return;
  away = !answered;
  for (const listener of listeners) listener();
}

export function useAway(): boolean {
  return useSyncExternalStore(subscribe, () => away);
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
