import { useQuery } from '@tanstack/react-query';
import { Link, useSearch } from '@tanstack/react-router';
import { useState } from 'react';
import { Asked } from '~/components/asking';
import { Card, Choices, Field, Note, Page, SelectField, TextField } from '~/components/parts';
import { isMine, useApp, useManifest, type App, type AppManifest } from '~/features/apps/queries';
import { useListings } from '~/features/market/listings';
import { ask, client } from '~/lib/api';
import { useToken } from '~/lib/deployment';
import { useT } from '~/lib/i18n';
import { parseAmount, shown } from '~/lib/money';
import { DEVELOPMENT_IMAGE } from '~/lib/protocol/appManifest';
import { useWallet } from '~/lib/wallet/useWallet';
import { CostPreview } from './CostPreview';
import {
  draftOf,
  FRESH,
  readDraft,
  type AppDraft,
  type FieldName,
  type PriceModel,
  type Read,
} from './draft';
import { PublishCard } from './PublishCard';
import { begun, TEMPLATES } from './templates';

export function DeployPage() {
  const t = useT();
  const { from } = useSearch({ from: '/apps/new' });
  return (
    <Page title={t('deploy.title')} lead={t('deploy.lead')}>
      {from === undefined ? (
        <DeployForm key="fresh" initial={null} from={null} />
      ) : (
        <FromApp key={from} id={from} />
      )}
    </Page>
  );
}

function FromApp({ id }: { id: string }) {
  const app = useApp(id);
  return <Asked query={app}>{(found) => <FromVersion app={found} />}</Asked>;
}

function FromVersion({ app }: { app: App }) {
  const { decimals } = useToken();
  const manifest = useManifest(app.latest.manifest_digest);
  const prices = useQuery({
    queryKey: ['prices', app.id, app.versions],
    queryFn: () =>
      ask(
        client.GET('/v1/apps/{app}/prices', {
          params: { path: { app: app.id }, query: { version: app.versions, limit: 200 } },
        }),
      ),
  });
  return (
    <Asked query={manifest}>
      {(found) => (
        <Asked query={prices}>
          {({ items }) => (
            <DeployForm initial={draftOfApp(found, items.at(-1)?.price, decimals)} from={app} />
          )}
        </Asked>
      )}
    </Asked>
  );
}

function draftOfApp(
  manifest: AppManifest,
  price: { flat: string; fee_per_call: string; rate_per_gpu_second: string } | undefined,
  decimals: number,
): AppDraft {
  const known = {
    flat: BigInt(price?.flat ?? 0),
    feePerCall: BigInt(price?.fee_per_call ?? 0),
    ratePerGpuSecond: BigInt(price?.rate_per_gpu_second ?? 0),
  };
  return draftOf(manifest, known, decimals);
}

interface Form {
  draft: AppDraft;
  read: Read;
  change: (part: Partial<AppDraft>) => void;
  /** What is wrong with a field that was touched; nobody is blamed for a form that is still empty. */
  fault: (field: FieldName) => string | null;
}

function DeployForm({ initial, from }: { initial: AppDraft | null; from: App | null }) {
  const t = useT();
  const token = useToken();
  const { address } = useWallet();
  const listings = useListings().data ?? [];
  const classes = [...new Set(listings.map((listing) => listing.gpu.gpu_class))].sort();
  const [typed, setTyped] = useState<AppDraft>(initial ?? FRESH);
  const [touched, setTouched] = useState<ReadonlySet<string>>(new Set());
  const onlyProcess = useOnlyProcess();
  const draft: AppDraft = {
    ...typed,
    // A market of plain processes knows one image only, and '' of a template is whatever class there is.
    image: typed.image === '' && onlyProcess && !touched.has('image') ? DEVELOPMENT_IMAGE : typed.image,
    gpuClass: typed.gpuClass === '' ? (classes[0] ?? 'none') : typed.gpuClass,
  };
  const read = readDraft(draft, token.decimals);
  const form: Form = {
    draft,
    read,
    change: (part) => {
      setTouched((before) => new Set([...before, ...Object.keys(part)]));
      setTyped((before) => ({ ...before, ...part }));
    },
    fault: (field) => {
      const found = read.ok ? undefined : read.faults[field];
      return found === undefined || !(touched.has(field) || draft[field] !== '') ? null : t(found);
    },
  };
  const mine = from !== null && isMine(from, address);

  return (
    <>
      {from === null ? null : (
        <Note title={mine ? t('deploy.changing') : t('deploy.copying')}>
          {mine ? t('deploy.changingText', { version: from.versions + 1 }) : t('deploy.copyingText')}
        </Note>
      )}
      <div className="columns columns-wide-left">
        <div className="stack-l">
          {from === null ? (
            <TemplateCard
              onTemplate={(key) => {
                const template = TEMPLATES.find((one) => one.key === key);
                if (template !== undefined) setTyped((before) => begun(template, before));
                setTouched(new Set());
              }}
            />
          ) : null}
          <Program form={form} onlyProcess={onlyProcess} named={mine} />
          <Resources form={form} classes={classes} />
          <Price form={form} />
          <Scaling form={form} />
        </div>
        <div className="stack-l">
          <CostPreview draft={draft} read={read} />
          <PublishCard read={read} app={mine ? from : null} touched={touched.size > 0 || from !== null} />
        </div>
      </div>
    </>
  );
}

/** Whether every provider runs tasks and apps as plain processes, as on a market for development. */
function useOnlyProcess(): boolean {
  const offers = useQuery({
    queryKey: ['offers', 'runtime'],
    queryFn: () =>
      ask(client.GET('/v1/offers', { params: { query: { gpu_class: '', gpus: 0, seconds: 60 } } })),
    staleTime: 30_000,
  }).data;
  return offers !== undefined && offers.length > 0 && offers.every((offer) => offer.runtime === 'process');
}

function TemplateCard({ onTemplate }: { onTemplate: (key: string) => void }) {
  const t = useT();
  const [chosen, setChosen] = useState('');
  const template = TEMPLATES.find((one) => one.key === chosen);
  return (
    <Card title={t('deploy.start')}>
      <Choices
        label={t('deploy.start')}
        value={chosen}
        options={TEMPLATES.map((one) => ({ value: one.key, label: t(one.title) }))}
        onValue={(key) => {
          setChosen(key);
          onTemplate(key);
        }}
      />
      <p className="small soft">
        {template === undefined ? t('deploy.startText') : t(template.text)}{' '}
        {template === undefined ? <Link to="/apps">{t('deploy.startApps')}</Link> : null}
      </p>
    </Card>
  );
}

function Program({ form, onlyProcess, named }: { form: Form; onlyProcess: boolean; named: boolean }) {
  const t = useT();
  const { draft, change, fault } = form;
  return (
    <Card title={t('deploy.program')}>
      <div className="fields">
        <TextField
          label={t('task.name')}
          value={draft.name}
          placeholder="hello-gpu"
          spellCheck={false}
          disabled={named}
          hint={named ? t('deploy.nameKept') : t('deploy.nameHint')}
          fault={fault('name')}
          onValue={(name) => change({ name })}
        />
        <SelectField
          label={t('deploy.handler')}
          value={draft.handler}
          hint={t('deploy.handlerHint')}
          onValue={(handler) => change({ handler: handler as AppDraft['handler'] })}
        >
          <option value="function">{t('deploy.handler.function')}</option>
          <option value="runpod">{t('deploy.handler.runpod')}</option>
          <option value="http">{t('deploy.handler.http')}</option>
        </SelectField>
      </div>
      <TextField
        label={t('task.image')}
        value={draft.image}
        placeholder="name@sha256:…"
        spellCheck={false}
        hint={
          onlyProcess
            ? t('deploy.imageProcess', { name: draft.name === '' ? '…' : draft.name })
            : t('deploy.imageHint')
        }
        fault={fault('image')}
        onValue={(image) => change({ image })}
      />
      <div className="fields">
        {draft.handler === 'http' ? (
          <TextField
            label={t('deploy.socket')}
            value={draft.socket}
            spellCheck={false}
            hint={t('deploy.socketHint')}
            fault={fault('socket')}
            onValue={(socket) => change({ socket })}
          />
        ) : (
          <>
            <TextField
              label={t('deploy.entry')}
              value={draft.entry}
              spellCheck={false}
              hint={t('deploy.entryHint')}
              fault={fault('entry')}
              onValue={(entry) => change({ entry })}
            />
            <TextField
              label={t('deploy.warmUp')}
              value={draft.warmUp}
              spellCheck={false}
              hint={t('deploy.warmUpHint')}
              fault={fault('warmUp')}
              onValue={(warmUp) => change({ warmUp })}
            />
          </>
        )}
        <TextField
          label={t('app.longest')}
          value={draft.timeout}
          hint={t('deploy.timeoutHint')}
          fault={fault('timeout')}
          onValue={(timeout) => change({ timeout })}
        />
      </div>
      <Field label={t('deploy.schema')} hint={t('deploy.schemaHint')} fault={fault('schema')}>
        {(id, described) => (
          <textarea
            id={id}
            className="input mono"
            rows={draft.schema === '' ? 3 : 9}
            spellCheck={false}
            aria-describedby={described}
            value={draft.schema}
            onChange={(event) => change({ schema: event.target.value })}
          />
        )}
      </Field>
    </Card>
  );
}

function Resources({ form, classes }: { form: Form; classes: readonly string[] }) {
  const t = useT();
  const { draft, change } = form;
  const withGpu = draft.gpuClass !== 'none';
  const known = withGpu && !classes.includes(draft.gpuClass) ? [...classes, draft.gpuClass] : classes;
  return (
    <Card title={t('deploy.resources')}>
      <div className="fields">
        <SelectField
          label={t('market.class')}
          value={draft.gpuClass}
          onValue={(gpuClass) => change({ gpuClass })}
        >
          <option value="none">{t('new.noGpu')}</option>
          {known.map((name) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
        </SelectField>
        {withGpu ? (
          <>
            <NumberField form={form} field="gpus" label={t('new.count')} />
            <NumberField
              form={form}
              field="gpuMemoryMib"
              label={t('deploy.gpuMemory')}
              unit="MiB"
              hint={t('deploy.gpuMemoryHint')}
            />
          </>
        ) : null}
        <NumberField form={form} field="memoryMib" label={t('deploy.memory')} unit="MiB" />
        <NumberField form={form} field="cpuMilli" label={t('deploy.cpu')} hint={t('deploy.cpuHint')} />
        <NumberField form={form} field="diskMib" label={t('deploy.disk')} unit="MiB" />
      </div>
      <p className="small soft">{t('deploy.resourcesText')}</p>
    </Card>
  );
}

function Price({ form }: { form: Form }) {
  const t = useT();
  const token = useToken();
  const { draft, change, fault } = form;
  const hour = parseAmount(draft.gpuHour, token.decimals);
  const second = hour.ok ? `${shown(hour.units / 3600n, token.decimals, 'nearest')} ${token.symbol}` : null;
  const models: { value: PriceModel; label: string }[] = [
    { value: 'call', label: t('deploy.model.call') },
    { value: 'gpu', label: t('deploy.model.gpu') },
    { value: 'hybrid', label: t('deploy.model.hybrid') },
    { value: 'flat', label: t('deploy.model.flat') },
  ];
  const has = (part: PriceModel) => draft.model === part || draft.model === 'hybrid';
  return (
    <Card title={t('app.price')}>
      <Choices
        label={t('deploy.model')}
        value={draft.model}
        options={models}
        onValue={(model) => change({ model })}
      />
      <p className="small soft">{t(`deploy.model.${draft.model}Text`)}</p>
      <div className="fields">
        {has('call') ? (
          <TextField
            label={t('app.perCall')}
            unit={token.symbol}
            inputMode="decimal"
            value={draft.call}
            fault={fault('call')}
            onValue={(call) => change({ call })}
          />
        ) : null}
        {has('gpu') ? (
          <TextField
            label={t('app.perHour')}
            unit={`${token.symbol}/h`}
            inputMode="decimal"
            value={draft.gpuHour}
            hint={second === null ? t('deploy.perHourHint') : t('deploy.perSecond', { amount: second })}
            fault={fault('gpuHour')}
            onValue={(gpuHour) => change({ gpuHour })}
          />
        ) : null}
        {has('flat') ? (
          <TextField
            label={t('app.flat')}
            unit={token.symbol}
            inputMode="decimal"
            value={draft.flat}
            fault={fault('flat')}
            onValue={(flat) => change({ flat })}
          />
        ) : null}
      </div>
      <div className="fields">
        <TextField
          label={t('deploy.discount')}
          unit="%"
          inputMode="numeric"
          value={draft.discount}
          placeholder="0"
          hint={t('deploy.discountHint')}
          fault={fault('discount')}
          onValue={(discount) => change({ discount })}
        />
        {draft.discount.trim() === '' ? null : (
          <NumberField
            form={form}
            field="discountDays"
            label={t('deploy.discountDays')}
            hint={t('deploy.discountDaysHint')}
          />
        )}
      </div>
    </Card>
  );
}

function Scaling({ form }: { form: Form }) {
  const t = useT();
  const { draft, change, fault } = form;
  return (
    <Card title={t('deploy.scaling')}>
      <div className="fields">
        <NumberField
          form={form}
          field="minWorkers"
          label={t('deploy.minWorkers')}
          hint={t('deploy.minWorkersHint')}
        />
        <NumberField
          form={form}
          field="maxWorkers"
          label={t('deploy.maxWorkers')}
          hint={t('deploy.maxWorkersHint')}
        />
        <NumberField
          form={form}
          field="concurrency"
          label={t('app.atOnce')}
          hint={t('deploy.concurrencyHint')}
        />
        <NumberField
          form={form}
          field="queueDelayMs"
          label={t('deploy.queueDelay')}
          unit="ms"
          hint={t('deploy.queueDelayHint')}
        />
        <TextField
          label={t('deploy.cooldown')}
          value={draft.cooldown}
          hint={t('deploy.cooldownHint')}
          fault={fault('cooldown')}
          onValue={(cooldown) => change({ cooldown })}
        />
      </div>
    </Card>
  );
}

type NumberName =
  | 'gpus'
  | 'gpuMemoryMib'
  | 'memoryMib'
  | 'cpuMilli'
  | 'diskMib'
  | 'minWorkers'
  | 'maxWorkers'
  | 'concurrency'
  | 'queueDelayMs'
  | 'discountDays';

function NumberField(props: { form: Form; field: NumberName; label: string; unit?: string; hint?: string }) {
  const { form, field, ...rest } = props;
  return (
    <TextField
      {...rest}
      inputMode="numeric"
      value={form.draft[field]}
      fault={form.fault(field)}
      onValue={(value) => form.change({ [field]: value })}
    />
  );
}
