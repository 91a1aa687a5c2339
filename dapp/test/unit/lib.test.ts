import { encodeErrorResult, type Hex } from 'viem';
import { describe, expect, it } from 'vitest';
import { fillIn, readSchema } from '~/features/apps/schema';
import { endOfStream } from '~/features/apps/stream';
import { addUp, periodsOf, sumBy } from '~/features/costs/days';
import { chooseOffers, offersOf, pricesByModel, type Listing } from '~/features/market/listings';
import { splitCommand, taskFault, type Draft } from '~/features/newtask/draft';
import { seriesOf, type Sample } from '~/features/tasks/readings';
import { contractErrorsAbi } from '~/generated/abi';
import { contractErrors } from '~/generated/errors';
import { revertData, sentenceOf, sentenceOfRevert } from '~/lib/chain/faults';
import { fill, translator } from '~/lib/i18n';
import { loginText } from '~/lib/login';
import { partOf } from '~/lib/money';
import { eventParser, follow } from '~/lib/sse';
import { parseDurationSeconds, shownMs } from '~/lib/time';
import { readAnnouncement } from '~/lib/wallet/discovery';
import { en } from '~/messages/en';
import { zh } from '~/messages/zh';

const words = { t: translator(en), language: 'en' as const, token: { symbol: 'TALLY', decimals: 18 } };

describe('the catalogue', () => {
  const names = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map((match) => match[1]).sort();
  it('names the same values in both languages', () => {
    for (const key of Object.keys(en) as (keyof typeof en)[])
      expect([key, names(zh[key])]).toEqual([key, names(en[key])]);
  });
  it('fills values in', () => expect(fill('{a} of {b} {c}', { a: 1, b: 'two' })).toBe('1 of two {c}'));
});

describe('faults', () => {
  it('of contracts are sentences with their values', () => {
    const data = encodeErrorResult({
      abi: contractErrorsAbi,
      errorName: 'InsufficientAvailable',
      args: [5n * 10n ** 18n, 10n ** 18n],
    });
    const sentence = sentenceOfRevert(data, words);
    expect(sentence).toContain('5 TALLY');
    expect(sentence).toContain('1 TALLY');
    expect(sentenceOf({ cause: { error: { data } } }, words)).toBe(sentence);
    expect(sentenceOfRevert(data, { ...words, language: 'zh' })).toMatch(/。$/);
  });
  it('have a sentence for every custom error', () => {
    for (const error of contractErrorsAbi) expect(contractErrors).toHaveProperty(error.name);
  });
  it('never say that execution reverted', () => {
    expect(sentenceOf(new Error('execution reverted'), words)).not.toMatch(/revert/i);
    expect(sentenceOf({ message: 'execution reverted: 0x12345678', data: '0x12345678' }, words)).not.toMatch(
      /revert/i,
    );
  });
  it('know a person who said no', () =>
    expect(sentenceOf({ code: 4001, message: 'no' }, words)).toBe(en['fault.declined']));
  it('find the bytes however deep', () => {
    const data: Hex = '0xdeadbeef00';
    expect(revertData({ cause: { cause: { data: { data } } } })).toBe(data);
    expect(revertData(new Error('x'))).toBeNull();
  });
});

describe('server-sent events', () => {
  it('are whole however the text is cut', () => {
    const text = ': hello\n\nid: 1\nevent: log\ndata: {"a":\ndata: 1}\n\nid: 2\ndata: x\r\n\r\n';
    for (let cut = 0; cut <= text.length; cut += 1) {
      const parse = eventParser();
      const found = [...parse(text.slice(0, cut)), ...parse(text.slice(cut))];
      expect(found).toEqual([
        { id: '1', event: 'log', data: '{"a":\n1}' },
        { id: '2', event: 'message', data: 'x' },
      ]);
    }
  });
  it('go on after the last one when the line breaks, and poll when it keeps breaking', async () => {
    const opened: string[] = [];
    const heard: string[] = [];
    const modes: string[] = [];
    let polls = 0;
    await follow({
      signal: new AbortController().signal,
      pauseMs: () => Promise.resolve(),
      open: (lastId) => {
        opened.push(lastId);
        if (opened.length === 1) return Promise.resolve(new Response('id: 7\ndata: a\n\n'));
        return Promise.reject(new Error('away'));
      },
      onEvent: (event) => heard.push(event.data),
      poll: () => {
        polls += 1;
        return Promise.resolve(polls === 2);
      },
      onMode: (mode) => modes.push(mode),
    });
    expect(heard).toEqual(['a']);
    expect(opened.slice(0, 2)).toEqual(['', '7']);
    expect(modes.at(0)).toBe('live');
    expect(modes).toContain('polling');
    expect(modes.at(-1)).toBe('ended');
  });
  it('end when the stream says so', async () => {
    let opened = 0;
    await follow({
      signal: new AbortController().signal,
      pauseMs: () => Promise.resolve(),
      open: () => {
        opened += 1;
        return Promise.resolve(new Response('event: end\ndata: {}\n\n'));
      },
      onEvent: () => undefined,
      poll: () => Promise.resolve(false),
    });
    expect(opened).toBe(1);
  });
});

describe('wallets', () => {
  const provider = { request: () => Promise.resolve(null) };
  it('are taken as announced, without pictures from elsewhere', () => {
    const info = { uuid: 'u', rdns: 'a.b', name: 'A', icon: 'https://elsewhere/icon.png' };
    expect(readAnnouncement({ info, provider })).toMatchObject({ rdns: 'a.b', icon: null });
    expect(readAnnouncement({ info: { ...info, icon: 'data:image/png;base64,AA' }, provider })?.icon).toMatch(
      /^data:/,
    );
  });
  it.each([null, {}, { info: {} }, { info: { rdns: 'a', name: 'b' }, provider: {} as never }])(
    'are not %j',
    (detail) => expect(readAnnouncement(detail)).toBeNull(),
  );
});

it('the log-in message is EIP-4361, to the letter', () => {
  const text = loginText({
    origin: 'http://127.0.0.1:8000',
    address: '0x70997970C51812dc3A010C7d01b50e0d17dc79C8',
    chainId: 31337,
    nonce: '0f6e0b8c2d9a4e71',
    statement: 'Log in.',
    now: new Date('2026-11-21T03:00:00.123Z'),
  });
  expect(text).toBe(
    '127.0.0.1:8000 wants you to sign in with your Ethereum account:\n0x70997970C51812dc3A010C7d01b50e0d17dc79C8\n\nLog in.\n\n' +
      'URI: http://127.0.0.1:8000\nVersion: 1\nChain ID: 31337\nNonce: 0f6e0b8c2d9a4e71\n' +
      'Issued At: 2026-11-21T03:00:00Z\nExpiration Time: 2026-11-21T03:10:00Z',
  );
});

describe('time', () => {
  it.each([
    ['45s', 45],
    ['90m', 5400],
    ['8h', 28_800],
    ['1d12h', 129_600],
    ['600', 600],
  ])('%s', (text, seconds) => expect(parseDurationSeconds(text)).toBe(seconds));
  it.each(['', 'soon', '1h2', '-5m', '1.5h'])('refuses %j', (text) =>
    expect(parseDurationSeconds(text)).toBeNull(),
  );
  it.each([
    [420, '420ms'],
    [4_200, '4.20s'],
    [65_000, '1m 05s'],
    [3_600_000, '1h 00m'],
    [200_000_000, '2d 7h'],
  ])('%d ms is %s', (ms, text) => expect(shownMs(ms)).toBe(text));
});

describe('the market', () => {
  const listing = (provider: string, rate: string, memory: number, busy = false, online = true): Listing => ({
    provider,
    gpu: { gpu_id: 'g', model: 'M', gpu_class: 'gpu1', memory_mib: memory, simulated: false },
    rate_per_gpu_second: rate,
    busy,
    online,
  });
  const offers = offersOf([
    listing('0xa', '5', 24_576),
    listing('0xa', '5', 24_576, true),
    listing('0xb', '3', 16_384),
    listing('0xc', '9', 24_576, false, false),
  ]);
  it('counts cards of a kind together', () =>
    expect(offers.map((one) => [one.provider, one.cards, one.free])).toEqual([
      ['0xa', 2, 1],
      ['0xb', 1, 1],
      ['0xc', 1, 0],
    ]));
  it('weighs prices by cards that are there', () =>
    expect(pricesByModel(offers)).toMatchObject([{ cards: 3, free: 2, min: 3n, median: 5n, max: 5n }]));
  it('filters and sorts', () => {
    const wanted = { gpuClass: '', memoryGib: 20, freeOnly: true, realOnly: false, sort: 'price' as const };
    expect(chooseOffers(offers, wanted).map((one) => one.provider)).toEqual(['0xa']);
    expect(
      chooseOffers(offers, { ...wanted, memoryGib: 0, freeOnly: false }).map((one) => one.provider),
    ).toEqual(['0xb', '0xa', '0xc']);
  });
});

describe('a draft of a task', () => {
  const draft: Draft = {
    kind: 'script',
    name: '',
    scriptName: 'main.py',
    script: 'x',
    image: '',
    command: '',
    files: [],
    gpuClass: 'gpu1',
    count: '1',
    limit: '',
    ceiling: '',
  };
  it.each([
    [{}, null],
    [{ scriptName: '../main.py' }, 'new.scriptNameFault'],
    [{ script: ' ' }, 'new.scriptEmpty'],
    [{ count: '65' }, 'new.countFault'],
    [{ files: [{ name: 'main.py', content: new Uint8Array() }] }, 'new.filesFault'],
    [{ kind: 'image' as const }, 'new.imageFault'],
  ])('%o', (change, fault) => expect(taskFault({ ...draft, ...change }, 60)).toBe(fault));
  it('splits commands without expanding anything', () =>
    expect(splitCommand(`python -c "print('a b')" '$HOME' x`)).toEqual([
      'python',
      '-c',
      "print('a b')",
      '$HOME',
      'x',
    ]));
});

describe('an input schema', () => {
  const schema = readSchema(
    JSON.stringify({
      type: 'object',
      required: ['name'],
      properties: {
        name: { type: 'string' },
        times: { type: 'integer', default: 2 },
        how: { enum: ['a', 'b'] },
        list: { type: 'array' },
      },
    }),
  );
  it('becomes fields', () =>
    expect(schema?.fields.map((field) => [field.name, field.kind])).toEqual([
      ['name', 'text'],
      ['times', 'integer'],
      ['how', 'choice'],
      ['list', 'json'],
    ]));
  it('is filled in with defaults, and without what was left empty', () =>
    expect(fillIn(schema?.fields ?? [], { name: 'Ada', list: '[1]' })).toEqual({
      ok: true,
      input: { name: 'Ada', times: 2, list: [1] },
    }));
  it('names the field that does not fit', () => {
    expect(fillIn(schema?.fields ?? [], {})).toEqual({ ok: false, field: 'name' });
    expect(fillIn(schema?.fields ?? [], { name: 'x', times: '1.5' })).toEqual({ ok: false, field: 'times' });
  });
  it.each(['', '[]', '{"type":"string"}', 'no json'])('%j is none', (text) =>
    expect(readSchema(text)).toBeNull(),
  );
});

it('a stream of lines ends with what it cost, and the rest is the result byte for byte', () => {
  const whole = new TextEncoder().encode(
    '{"a":1}\n{"b":2}\n{"charged":{"call_id":"call-123","charge":"5"}}\n',
  );
  const end = endOfStream(whole);
  expect(end).toMatchObject({ callId: 'call-123', charge: 5n });
  expect(new TextDecoder().decode(end?.result)).toBe('{"a":1}\n{"b":2}\n');
  expect(endOfStream(new TextEncoder().encode('{"a":1}\n'))).toBeNull();
});

it('costs are added up by the local day, to the unit', () => {
  const until = new Date(2026, 10, 21, 15).getTime();
  const periods = periodsOf('day', until, 3);
  expect(periods.map((period) => new Date(period.startMs).getDate())).toEqual([19, 20, 21]);
  const at = (day: number) => new Date(2026, 10, day, 9).getTime();
  const found = addUp(periods, [
    { kind: 'call', start_ms: at(20), completed: 2, charge: '7' } as never,
    { kind: 'task', start_ms: at(21), completed: 1, tasks: 1, charge: '9007199254740993' } as never,
    { kind: 'task', start_ms: at(21), completed: 0, tasks: 1, charge: '0' } as never,
  ]);
  expect(found.map((period) => [period.calls, period.callCharge, period.tasks, period.taskCharge])).toEqual([
    [0, 0n, 0, 0n],
    [2, 7n, 0, 0n],
    [0, 0n, 2, 9007199254740993n],
  ]);
});

it('costs are grouped, tasks beside calls, the dearest first', () => {
  const call = { kind: 'call', completed: 1, gpu_ms: 5, gpu_class: 'gpu1', app_id: '0xa9', key_id: 'k' };
  const task = { kind: 'task', completed: 1, tasks: 1, gpu_ms: 7, gpu_class: 'gpu1', app_id: '', key_id: '' };
  const rows = [
    { ...call, charge: '3' },
    { ...task, charge: '40' },
  ] as never[];
  expect(sumBy(rows, 'gpu')).toEqual([{ name: 'gpu1', calls: 1, tasks: 1, gpuMs: 12, charge: 43n }]);
  expect(sumBy(rows, 'app').map((sum) => [sum.name, sum.calls, sum.tasks, sum.charge])).toEqual([
    ['', 0, 1, 40n],
    ['0xa9', 1, 0, 3n],
  ]);
  expect(sumBy(rows, 'key').map((sum) => sum.name)).toEqual(['', 'k']);
});

it('a budget bar is full when nothing is left, and not before', () => {
  expect([partOf(0n, 10n), partOf(999n, 1000n), partOf(10n, 10n), partOf(11n, 10n)]).toEqual([
    0, 99, 100, 100,
  ]);
  expect(partOf(0n, 0n)).toBe(100);
});

it('a reading that nobody could take is a gap, never zero', () => {
  const sample = (at_ms: number, load: number | null): Sample => ({
    id: at_ms,
    fence: 1,
    at_ms,
    gpus: [{ gpu_id: 'g', utilization_percent: load }],
  });
  expect(seriesOf([sample(1, 50), sample(2, null), sample(3, 0)], 'utilization_percent')).toEqual([
    { atMs: 1, value: 50 },
    null,
    { atMs: 3, value: 0 },
  ]);
});
