import { useQuery } from '@tanstack/react-query';
import { Link, useNavigate, useSearch } from '@tanstack/react-router';
import { useState } from 'react';
import type { Hex } from 'viem';
import { NeedsLogIn } from '~/app/gates';
import { Asked } from '~/components/asking';
import {
  Card,
  Choices,
  Empty,
  Field,
  Figure,
  Note,
  Page,
  SelectField,
  Table,
  TableCard,
  Tag,
  TextField,
} from '~/components/parts';
import { TransactionButton, type Prepare } from '~/components/transaction';
import { Amount, shortHex } from '~/components/values';
import { useListings } from '~/features/market/listings';
import { useBalances } from '~/features/money/balances';
import { ask, client } from '~/lib/api';
import { createTask } from '~/lib/chain/writes';
import { useDeployment, useToken } from '~/lib/deployment';
import { useT } from '~/lib/i18n';
import { maxChargeUp, parseAmount, ratePerGpuSecondDown, SECONDS_PER_HOUR } from '~/lib/money';
import type { BundleFile } from '~/lib/protocol/bundle';
import { chooseRate, placeOrder, type OfferBody } from '~/lib/protocol/order';
import { parseDurationSeconds, shownSeconds } from '~/lib/time';
import { useWallet } from '~/lib/wallet/useWallet';
import { Again } from './Again';
import { commandOf, splitCommand, taskFault, type Draft } from './draft';

const EXAMPLE = `import os, time

for step in range(1, 11):
    print(f"::progress {step * 10} step {step} of 10", flush=True)
    print("step", step, flush=True)
    time.sleep(0.5)

folder = os.environ["TALLYSTICK_OUTPUT"]
with open(os.path.join(folder, "result.txt"), "w") as file:
    file.write("done")
`;

const FRESH: Draft = {
  kind: 'script',
  name: '',
  scriptName: 'main.py',
  script: EXAMPLE,
  image: '',
  command: '',
  files: [],
  gpuClass: '',
  count: '1',
  limit: '10m',
  ceiling: '',
};

export function NewTaskPage() {
  const t = useT();
  const { again } = useSearch({ from: '/tasks/new' });
  return (
    <Page title={t('new.title')} lead={t('new.lead')}>
      <NeedsLogIn why={t('new.why')}>
        {again === undefined ? (
          <NewTask key="fresh" initial={FRESH} />
        ) : (
          <Again key={again} id={again}>
            {(draft) => <NewTask initial={draft} />}
          </Again>
        )}
      </NeedsLogIn>
    </Page>
  );
}

function NewTask({ initial }: { initial: Draft }) {
  const t = useT();
  const token = useToken();
  const [draft, setDraft] = useState<Draft>(initial);
  const change = (part: Partial<Draft>) => setDraft((before) => ({ ...before, ...part }));
  const listings = useListings().data ?? [];
  const classes = [...new Set(listings.map((listing) => listing.gpu.gpu_class))].sort();
  const gpuClass = draft.gpuClass === '' ? (classes[0] ?? '') : draft.gpuClass;
  const seconds = parseDurationSeconds(draft.limit);
  const ceiling = parseAmount(draft.ceiling, token.decimals);
  const rateCeiling = ceiling.ok ? ratePerGpuSecondDown(ceiling.units) : null;
  const count = Number(draft.count);
  const gpus = gpuClass === 'none' ? 0 : count;
  const offers = useOffers(
    gpuClass,
    gpus,
    seconds ?? 0,
    draft.kind === 'image' ? draft.image.trim() : '',
    rateCeiling,
  );
  const fault = taskFault({ ...draft, gpuClass }, seconds);

  return (
    <div className="columns columns-wide-left">
      <div className="stack-l">
        <Card title={t('new.what')}>
          <Choices
            label={t('new.what')}
            value={draft.kind}
            options={[
              { value: 'script', label: t('new.script') },
              { value: 'image', label: t('new.image') },
            ]}
            onValue={(kind) => change({ kind })}
          />
          {draft.kind === 'script' ? (
            <ScriptFields draft={draft} change={change} />
          ) : (
            <ImageFields draft={draft} change={change} />
          )}
          <InputFiles draft={draft} change={change} />
        </Card>
        <Card title={t('new.on')}>
          <div className="fields">
            <SelectField
              label={t('market.class')}
              value={gpuClass}
              onValue={(name) => change({ gpuClass: name })}
            >
              {classes.map((name) => (
                <option key={name} value={name}>
                  {name}
                </option>
              ))}
              <option value="none">{t('new.noGpu')}</option>
            </SelectField>
            <TextField
              label={t('new.count')}
              inputMode="numeric"
              value={draft.count}
              disabled={gpuClass === 'none'}
              fault={
                gpus === 0 || (Number.isInteger(count) && count >= 1 && count <= 64)
                  ? null
                  : t('new.countFault')
              }
              onValue={(value) => change({ count: value })}
            />
            <TextField
              label={t('new.limit')}
              value={draft.limit}
              fault={seconds === null || seconds < 1 ? t('new.limitFault') : null}
              hint={t('new.limitHint')}
              onValue={(limit) => change({ limit })}
            />
            <TextField
              label={t('new.ceiling')}
              unit={`${token.symbol}/h`}
              inputMode="decimal"
              value={draft.ceiling}
              placeholder={t('new.ceilingAny')}
              fault={draft.ceiling === '' || ceiling.ok ? null : t('amount.form')}
              hint={t('new.ceilingHint')}
              onValue={(value) => change({ ceiling: value })}
            />
          </div>
        </Card>
        <TableCard title={t('new.offers')}>
          <Asked query={offers}>{(found) => <Offers offers={found} />}</Asked>
        </TableCard>
      </div>
      <Summary
        draft={{ ...draft, gpuClass }}
        offers={offers.data ?? []}
        gpus={gpus}
        seconds={seconds}
        rateCeiling={rateCeiling}
        fault={fault === null ? null : t(fault)}
      />
    </div>
  );
}

type Fields = { draft: Draft; change: (part: Partial<Draft>) => void };

function ScriptFields({ draft, change }: Fields) {
  const t = useT();
  const take = async (file: File | undefined) => {
    if (file !== undefined) change({ scriptName: file.name, script: await file.text() });
  };
  return (
    <>
      <div className="fields">
        <TextField
          label={t('new.scriptName')}
          value={draft.scriptName}
          onValue={(scriptName) => change({ scriptName })}
          hint={t('new.scriptNameHint')}
        />
        <Field label={t('new.scriptFile')}>
          {(id) => (
            <input
              id={id}
              className="input"
              type="file"
              accept=".py,.sh"
              onChange={(event) => void take(event.target.files?.[0])}
            />
          )}
        </Field>
      </div>
      <Field label={t('new.scriptText')} hint={t('new.scriptHint')}>
        {(id, described) => (
          <textarea
            id={id}
            className="input mono"
            rows={12}
            spellCheck={false}
            aria-describedby={described}
            value={draft.script}
            onChange={(event) => change({ script: event.target.value })}
          />
        )}
      </Field>
    </>
  );
}

function ImageFields({ draft, change }: Fields) {
  const t = useT();
  return (
    <>
      <TextField
        label={t('new.imageName')}
        value={draft.image}
        placeholder="name@sha256:…"
        spellCheck={false}
        onValue={(image) => change({ image })}
        hint={t('new.imageHint')}
      />
      <TextField
        label={t('new.command')}
        value={draft.command}
        placeholder="python -m train --epochs 3"
        spellCheck={false}
        onValue={(command) => change({ command })}
        hint={t('new.commandHint')}
      />
    </>
  );
}

function InputFiles({ draft, change }: Fields) {
  const t = useT();
  const take = async (list: FileList | null) => {
    const files: BundleFile[] = [];
    for (const file of list ?? [])
      files.push({ name: file.name, content: new Uint8Array(await file.arrayBuffer()) });
    change({ files });
  };
  return (
    <Field
      label={t('new.files')}
      hint={
        draft.files.length === 0
          ? t('new.filesHint')
          : t('new.filesTaken', { names: draft.files.map((file) => file.name).join(', ') })
      }
    >
      {(id, described) => (
        <input
          id={id}
          className="input"
          type="file"
          multiple
          aria-describedby={described}
          onChange={(event) => void take(event.target.files)}
        />
      )}
    </Field>
  );
}

function useOffers(gpuClass: string, gpus: number, seconds: number, image: string, ceiling: bigint | null) {
  const asked = gpuClass !== '' && Number.isInteger(gpus) && gpus >= 0 && gpus <= 64;
  return useQuery({
    queryKey: ['offers', gpuClass, gpus, seconds, image, ceiling?.toString()],
    queryFn: () => {
      const query = {
        gpu_class: gpuClass === 'none' ? '' : gpuClass,
        gpus,
        seconds,
        image,
        ...(ceiling === null ? {} : { rate_per_gpu_second: ceiling.toString() }),
      };
      return ask(client.GET('/v1/offers', { params: { query } }));
    },
    enabled: asked,
    refetchInterval: 5_000,
    placeholderData: (before) => before,
  });
}

function Offers({ offers }: { offers: readonly OfferBody[] }) {
  const t = useT();
  if (offers.length === 0) return <Empty title={t('new.noOffers')}>{t('new.noOffersText')}</Empty>;
  return (
    <Table
      caption={t('new.offersCaption')}
      rows={offers.map((offer, index) => ({ ...offer, rank: index + 1 }))}
      rowKey={(offer) => offer.provider}
      columns={[
        { key: 'rank', head: t('new.rank'), cell: (offer) => (offer.eligible ? offer.rank : '–') },
        {
          key: 'provider',
          head: t('market.provider'),
          cell: (offer) => (
            <Link to="/providers/$address" params={{ address: offer.provider }} className="mono">
              {shortHex(offer.provider)}
            </Link>
          ),
        },
        {
          key: 'free',
          head: t('market.free'),
          number: true,
          cell: (offer) => t('market.freeOf', { free: offer.gpus_free, cards: offer.gpus_total }),
        },
        {
          key: 'price',
          head: t('market.perHour'),
          number: true,
          cell: (offer) => <Amount price units={BigInt(offer.rate_per_gpu_second) * SECONDS_PER_HOUR} />,
        },
        {
          key: 'why',
          head: t('new.why.head'),
          cell: (offer) =>
            offer.eligible ? (
              <Tag tone="good">{offer.simulated ? t('new.canSimulated') : t('new.can')}</Tag>
            ) : (
              <span className="stack-s">
                <Tag tone="warn">{t('new.cannot')}</Tag>
                <span className="small soft">{offer.detail}</span>
              </span>
            ),
        },
      ]}
    />
  );
}

function Summary(props: {
  draft: Draft;
  offers: readonly OfferBody[];
  gpus: number;
  seconds: number | null;
  rateCeiling: bigint | null;
  fault: string | null;
}) {
  const t = useT();
  const navigate = useNavigate();
  const deployment = useDeployment().data;
  const { address } = useWallet();
  const balances = useBalances().data;
  const [ordered, setOrdered] = useState<Hex | null>(null);
  const { draft, offers, gpus, seconds } = props;
  const rate = chooseRate(offers, props.rateCeiling);
  const onlyProcess = offers.length > 0 && offers.every((offer) => offer.runtime === 'process');
  const needsImage = draft.kind === 'script' && !onlyProcess && draft.image.trim() === '';
  const most =
    rate === null || seconds === null
      ? null
      : maxChargeUp({ flat: 0n, feePerCall: 0n, ratePerGpuSecond: rate }, gpus, seconds);
  const short =
    most !== null && balances !== undefined && most > balances.available ? most - balances.available : null;
  const ready = props.fault === null && rate !== null && most !== null && short === null && !needsImage;

  const prepare: Prepare = async (signer, tell) => {
    if (deployment === undefined || rate === null || seconds === null) throw new Error('not ready');
    tell({ name: 'signing' });
    const script: BundleFile[] =
      draft.kind === 'script'
        ? [{ name: draft.scriptName, content: new TextEncoder().encode(draft.script) }]
        : [];
    const wish = {
      name: draft.name === '' ? (draft.kind === 'script' ? draft.scriptName : 'task') : draft.name,
      image: draft.image.trim() !== '' ? draft.image.trim() : 'process',
      command: draft.kind === 'script' ? commandOf(draft.scriptName) : splitCommand(draft.command),
      files: [...script, ...draft.files],
      gpuClass: draft.gpuClass,
      gpus,
      maxSeconds: seconds,
      ratePerGpuSecond: rate,
      ...(draft.rest === undefined ? {} : { rest: draft.rest }),
    };
    const { terms, taskId } = await placeOrder(deployment, signer, wish, offers);
    setOrdered(taskId);
    return createTask(deployment, terms);
  };
  // An order whose money was never locked would wait for ever: it is withdrawn again.
  const withdrawOrder = (taskId: Hex | null) => {
    if (taskId !== null)
      void client.POST('/v1/tasks/{task_id}/cancel', { params: { path: { task_id: taskId } } });
  };

  return (
    <div className="stack-l">
      <Card title={t('new.cost')}>
        <dl className="figures">
          <Figure name={t('new.price')} note={t('new.priceNote')}>
            {rate === null ? '–' : <Amount units={rate * SECONDS_PER_HOUR} per="h" />}
          </Figure>
          <Figure
            name={t('new.most')}
            note={seconds === null ? undefined : t('new.mostNote', { gpus, time: shownSeconds(seconds) })}
          >
            {most === null ? '–' : <Amount units={most} />}
          </Figure>
        </dl>
        <p className="small soft">{t('new.costText')}</p>
        {short === null ? null : (
          <Note tone="warn" title={t('new.short')}>
            <Amount units={short} /> {t('new.shortText')} <Link to="/money">{t('start.depositAct')}</Link>
          </Note>
        )}
        {rate === null && offers.length > 0 ? <Note tone="warn">{t('new.nobody')}</Note> : null}
        {needsImage ? (
          <Note tone="warn" title={t('new.needsImage')}>
            {t('new.needsImageText')}
          </Note>
        ) : null}
        {onlyProcess ? <Note tone="warn">{t('new.processNote')}</Note> : null}
        {props.fault === null ? null : <Note tone="warn">{props.fault}</Note>}
      </Card>
      <Card title={t('new.sign')}>
        <ol className="stack-s small soft numbered">
          <li>{t('new.sign1')}</li>
          <li>{t('new.sign2')}</li>
          <li>{t('new.sign3')}</li>
        </ol>
        <TransactionButton
          key={address}
          prepare={prepare}
          disabled={!ready}
          onFailed={(sent) => {
            if (!sent) withdrawOrder(ordered);
          }}
          onMined={() => {
            if (ordered !== null) void navigate({ to: '/tasks/$id', params: { id: ordered } });
          }}
        >
          {t('new.submit')}
        </TransactionButton>
      </Card>
    </div>
  );
}
