// The backend over HTTP. Paths, queries and bodies are checked against its OpenAPI document.

import createClient, { type Middleware } from 'openapi-fetch';
import type { components, paths } from '~/generated/api';
import { noteAnswer } from './away';
import { currentSession, setSession } from './session';

export type Schemas = components['schemas'];

/** A refusal in the backend's own words: what happened, and what to do next. */
export class ApiProblem extends Error {
  override name = 'ApiProblem';
  constructor(
    readonly status: number,
    readonly code: string,
    readonly title: string,
    readonly detail: string,
    readonly nextStep: string,
    readonly retryAfterS: number | null,
  ) {
    super(detail === '' ? title : detail);
  }
}

/** No answer at all: the backend is away, or the network is. */
export class BackendAway extends Error {
  override name = 'BackendAway';
}

const withSession: Middleware = {
  onRequest({ request }) {
    const session = currentSession();
    if (session !== null && !request.headers.has('Authorization')) {
      request.headers.set('Authorization', `Bearer ${session.token}`);
    }
    return request;
  },
};

export const client = createClient<paths>({
  baseUrl: typeof location === 'undefined' ? '' : location.origin,
  querySerializer: { array: { style: 'form', explode: true } },
});
client.use(withSession);

interface Answer<Data> {
  data?: Data;
  error?: unknown;
  response: Response;
}

/** The body of a good answer; throws `ApiProblem` or `BackendAway` for any other. */
export async function ask<Data>(pending: Promise<Answer<Data>>): Promise<NonNullable<Data>> {
  let answer: Answer<Data>;
  try {
    answer = await pending;
  } catch (fault) {
    throw unanswered(fault);
  }
  if (!answer.response.ok) throw problemOf(answer.response, answer.error);
  noteAnswer(true);
  return answer.data as NonNullable<Data>;
}

export function problemOf(response: Response, body: unknown): ApiProblem | BackendAway {
  const found = (typeof body === 'object' && body !== null ? body : {}) as Partial<Schemas['Problem']>;
  // A proxy in front of a backend that restarts answers without a problem of ours.
  if (found.code === undefined && response.status >= 500) {
    noteAnswer(false);
    return new BackendAway();
  }
  noteAnswer(true);
  if (response.status === 401 && found.code === 'not_logged_in') setSession(null);
  const retryAfter = Number(response.headers.get('Retry-After') ?? 'NaN');
  return new ApiProblem(
    response.status,
    found.code ?? 'unknown',
    found.title ?? response.statusText,
    found.detail ?? '',
    found.next_step ?? '',
    Number.isFinite(retryAfter) ? retryAfter : null,
  );
}

/** For answers that are no JSON: results, logs as files, calls of apps. */
export async function fetchRaw(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  const session = currentSession();
  if (session !== null) headers.set('Authorization', `Bearer ${session.token}`);
  let response: Response;
  try {
    response = await fetch(path, { ...init, headers });
  } catch (fault) {
    throw unanswered(fault);
  }
  if (!response.ok) {
    const body: unknown = await response.json().catch(() => null);
    throw problemOf(response, body);
  }
  noteAnswer(true);
  return response;
}

export function newIdempotencyKey(): string {
  return crypto.randomUUID();
}

function unanswered(fault: unknown): unknown {
  if (isAbort(fault)) return fault;
  noteAnswer(false);
  return new BackendAway();
}

function isAbort(fault: unknown): boolean {
  return fault instanceof DOMException && fault.name === 'AbortError';
}
