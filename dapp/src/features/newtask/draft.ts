// What a person has typed so far, and what is still wrong with it. Pure.

import type { Schemas } from '~/lib/api';
import { exact, ratePerGpuSecondDown, SECONDS_PER_HOUR, shown } from '~/lib/money';
import { isSafeName, type BundleFile } from '~/lib/protocol/bundle';
import type { Rest } from '~/lib/protocol/order';

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
  rest?: Rest;
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

const SCRIPT = /^\/task\/in\/([^/]+\.(?:py|sh))$/;

/** The form that orders a task again, with what was opened of its input. */
export function draftAgain(
  task: Pick<Schemas['TaskBody'], 'manifest' | 'terms'>,
  files: readonly BundleFile[],
  decimals: number,
): Draft {
  const { manifest, terms } = task;
  const { command, resources } = manifest;
  const scriptName = command.length === 2 ? SCRIPT.exec(command[1] ?? '')?.[1] : undefined;
  const script = files.find((file) => file.name === scriptName);
  const isScript =
    scriptName !== undefined &&
    script !== undefined &&
    commandOf(scriptName).join('\0') === command.join('\0');
  return {
    kind: isScript ? 'script' : 'image',
    name: manifest.name ?? '',
    scriptName: isScript ? scriptName : 'main.py',
    script: isScript ? new TextDecoder().decode(script.content) : '',
    // On a market of plain processes the form says so by itself.
    image: isScript && manifest.image === 'process' ? '' : manifest.image,
    command: isScript ? '' : joinCommand(command),
    files: isScript ? files.filter((file) => file !== script) : files,
    gpuClass: terms.gpus === 0 ? 'none' : (resources?.gpu_class ?? ''),
    count: Math.max(1, terms.gpus).toString(),
    limit: `${terms.max_seconds.toString()}s`,
    ceiling: ceilingOf(BigInt(terms.rate_per_gpu_second), decimals),
    rest: {
      env: manifest.env ?? {},
      gpuMemoryMib: resources?.gpu_memory_mib ?? 0,
      cpuMilli: resources?.cpu_milli ?? 1000,
      memoryMib: resources?.memory_mib ?? 2048,
      diskMib: resources?.disk_mib ?? 1024,
      maxOutputMib: manifest.max_output_mib ?? 256,
    },
  };
}

/** Per hour, in as few digits as come to the same rate a second. */
function ceilingOf(rate: bigint, decimals: number): string {
  if (rate === 0n) return '';
  const perHour = rate * SECONDS_PER_HOUR;
  const short = shown(perHour, decimals, 'nearest').replaceAll(',', '');
  const [whole = '0', part = ''] = short.split('.');
  const units = BigInt(whole + part.padEnd(decimals, '0'));
  return ratePerGpuSecondDown(units) === rate ? short : exact(perHour, decimals);
}

/** `splitCommand` makes the same words of it. */
export function joinCommand(words: readonly string[]): string {
  return words
    .map((word) => (/^[^\s"'\\]+$/.test(word) ? word : `"${word.replace(/["\\]/g, '\\$&')}"`))
    .join(' ');
}
