// What a person has typed so far, and what is still wrong with it. Pure.

import { isSafeName, type BundleFile } from '~/lib/protocol/bundle';

export interface Draft {
  kind: 'script' | 'image';
  name: string;
  scriptName: string;
  script: string;
  image: string;
  command: string;
  files: readonly BundleFile[];
  gpuClass: string;
  count: string;
  limit: string;
  ceiling: string;
}

const LONGEST_S = 30 * 24 * 3600;

export type DraftFault =
  | 'new.limitFault'
  | 'new.countFault'
  | 'new.scriptNameFault'
  | 'new.scriptEmpty'
  | 'new.imageFault'
  | 'new.commandFault'
  | 'new.filesFault';

export function taskFault(draft: Draft, seconds: number | null): DraftFault | null {
  if (seconds === null || seconds < 1 || seconds > LONGEST_S) return 'new.limitFault';
  const count = Number(draft.count);
  if (draft.gpuClass !== 'none' && !(Number.isInteger(count) && count >= 1 && count <= 64))
    return 'new.countFault';
  const names = draft.files.map((file) => file.name);
  if (draft.kind === 'script') {
    if (!/\.(py|sh)$/.test(draft.scriptName) || !isSafeName(draft.scriptName)) return 'new.scriptNameFault';
    if (draft.script.trim() === '') return 'new.scriptEmpty';
    names.push(draft.scriptName);
  } else {
    if (draft.image.trim() === '') return 'new.imageFault';
    if (splitCommand(draft.command).length === 0) return 'new.commandFault';
  }
  if (!names.every(isSafeName) || new Set(names).size !== names.length) return 'new.filesFault';
  return null;
}

export function commandOf(scriptName: string): string[] {
  return [scriptName.endsWith('.sh') ? 'sh' : 'python', `/task/in/${scriptName}`];
}

/** Words as a shell would split them, without any of its magic: quotes group, nothing is expanded. */
export function splitCommand(text: string): string[] {
  const words: string[] = [];
  for (const match of text.matchAll(/"((?:[^"\\]|\\.)*)"|'([^']*)'|(\S+)/g)) {
    words.push(match[1]?.replace(/\\(.)/g, '$1') ?? match[2] ?? match[3] ?? '');
  }
  return words;
}
