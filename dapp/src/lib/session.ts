// The log-in of this visit. It lives in memory alone: whoever reads the browser's storage finds nothing.

import { useSyncExternalStore } from 'react';

export interface Session {
  token: string;
  address: string;
  expiresAtMs: number;
}

let session: Session | null = null;
const listeners = new Set<() => void>();

export function currentSession(): Session | null {
  return session !== null && session.expiresAtMs > Date.now() ? session : null;
}

export function setSession(next: Session | null): void {
  session = next;
  for (const listener of listeners) listener();
}

export function useSession(): Session | null {
  return useSyncExternalStore(subscribe, () => session);
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
