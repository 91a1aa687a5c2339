// A task run again is ordered by the same form, with nothing lost on the way.

import { describe, expect, it } from 'vitest';
import { draftAgain, joinCommand, splitCommand, taskFault } from '~/features/newtask/draft';
import type { Schemas } from '~/lib/api';
import { parseAmount, ratePerGpuSecondDown } from '~/lib/money';
import { makeManifest } from '~/lib/protocol/order';
import { parseDurationSeconds } from '~/lib/time';
import { vectors } from './fixtures';

const DECIMALS = 18;
const file = (name: string, text: string) => ({
  name,
  content: new TextEncoder().encode(text),
});
const task = { manifest: vectors.manifest, terms: vectors.terms } as Pick<
  Schemas['TaskBody'],
  'manifest' | 'terms'
>;

describe('a task run again', () => {
  it('is the script that it was, with its other files beside it', () => {
    const draft = draftAgain(task, [file('main.py', 'print(1)'), file('data.csv', '1,2')], DECIMALS);
    expect(draft).toMatchObject({ kind: 'script', scriptName: 'main.py', script: 'print(1)', image: '' });
    expect(draft.files.map((one) => one.name)).toEqual(['data.csv']);
    expect(draft).toMatchObject({ gpuClass: 'gpu1', count: '2', limit: '600s', ceiling: '0.5' });
    expect(taskFault(draft, parseDurationSeconds(draft.limit))).toBeNull();
  });

  it('asks for the same rate, to the unit', () => {
    for (const rate of ['138888888888888', '1', '277777777777777', '123456789012345']) {
      const terms = { ...vectors.terms, rate_per_gpu_second: rate };
      const { ceiling } = draftAgain({ ...task, terms }, [], DECIMALS);
      const parsed = parseAmount(ceiling, DECIMALS);
      expect(parsed.ok && ratePerGpuSecondDown(parsed.units).toString()).toBe(rate);
    }
  });

  it('makes the same manifest but for its seal', () => {
    const draft = draftAgain(task, [file('main.py', '')], DECIMALS);
    const { manifest } = task;
    const again = makeManifest(
      {
        name: draft.name,
        image: 'process',
        command: [...manifest.command],
        files: [],
        gpuClass: draft.gpuClass,
        gpus: Number(draft.count),
        maxSeconds: 600,
        ratePerGpuSecond: 1n,
        ...(draft.rest === undefined ? {} : { rest: draft.rest }),
      },
      manifest.input_digest as `0x${string}`,
      manifest.result_key as `0x${string}`,
    );
    expect(again).toEqual(manifest);
  });

  it('keeps a command of its own, word by word', () => {
    const command = ['python', '-c', 'print("a \\ b", \'c\')', '', '--n=1'];
    expect(splitCommand(joinCommand(command))).toEqual(command);
    const manifest = { ...vectors.manifest, command, image: `x@sha256:${'ab'.repeat(32)}` };
    expect(draftAgain({ ...task, manifest }, [], DECIMALS)).toMatchObject({
      kind: 'image',
      image: manifest.image,
      command: joinCommand(command),
    });
  });
});
