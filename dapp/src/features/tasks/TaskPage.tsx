import { useQuery, useQueryClient } from '@tanstack/react-query';
import { Link, useParams } from '@tanstack/react-router';
import { useState } from 'react';
import { NeedsLogIn } from '~/app/gates';
import { Asked } from '~/components/asking';
import { Button, Card, Figure, Note, Page, Table, Tag } from '~/components/parts';
import { TransactionButton } from '~/components/transaction';
import { Amount, Hex, Moment, shortHex, TransactionLink } from '~/components/values';
import { ApiProblem, ask, client } from '~/lib/api';
import { sentenceOf } from '~/lib/chain/faults';
import { useReader } from '~/lib/chain/reader';
import { cancelTask, reclaimTask } from '~/lib/chain/writes';
import { useDeployment, useToken } from '~/lib/deployment';
import { useLanguage, useT } from '~/lib/i18n';
import { SECONDS_PER_HOUR } from '~/lib/money';
import { termsOf } from '~/lib/protocol/hashing';
import { shownSeconds } from '~/lib/time';
import { LiveLog } from './LiveLog';
import { Readings } from './Readings';
import { Receipt } from './Receipt';
import { oneTask, type Task } from './queries';
import { OVER, stateKey, STEPS, stepOf, toneOf } from './state';

export function TaskPage() {
  const t = useT();
  const { id } = useParams({ from: '/tasks/$id' });
  return (
    <NeedsLogInPage>
      <TaskById key={id} id={id} title={t('task.title', { id: shortHex(id) })} />
    </NeedsLogInPage>
  );
}

function NeedsLogInPage({ children }: { children: React.ReactNode }) {
  const t = useT();
  const { id } = useParams({ from: '/tasks/$id' });
  return (
    <NeedsLogIn
      why={t('tasks.why')}
      frame={(gate) => (
        <Page title={t('task.title', { id: shortHex(id) })} lead={t('task.private')}>
          {gate}
        </Page>
      )}
    >
      {children}
    </NeedsLogIn>
  );
}

function TaskById({ id, title }: { id: string; title: string }) {
  const task = useQuery({
    queryKey: ['task', id],
    queryFn: () => oneTask(id),
    refetchInterval: (query) =>
      query.state.data !== undefined && OVER.has(query.state.data.state) ? 10_000 : 1_500,
  });
  const name = task.data?.name ?? '';
  return (
    <Page
      title={name === '' ? title : name}
      lead={<Hex value={id} />}
      actions={task.data === undefined ? undefined : <StateTag state={task.data.state} />}
    >
      <Asked query={task}>{(found) => <TaskView task={found} />}</Asked>
    </Page>
  );
}

function StateTag({ state }: { state: string }) {
  const t = useT();
  return <Tag tone={toneOf(state)}>{t(stateKey(state))}</Tag>;
}

function TaskView({ task }: { task: Task }) {
  const t = useT();
  const token = useToken();
  const { terms, progress } = task;
  const ended = task.charge !== null && task.charge !== undefined;
  const hasReceipt = task.receipt_digest !== null && task.receipt_digest !== undefined;
  return (
    <>
      <section className="card" aria-label={t('state')}>
        <StateLine task={task} />
        <Explanation task={task} />
      </section>
      <dl className="figures">
        <Figure
          name={ended ? t('task.charged') : t('task.most')}
          note={ended ? t('task.chargedNote') : t('task.mostNote')}
        >
          <Amount units={BigInt(ended ? (task.charge ?? '0') : terms.max_charge)} />
        </Figure>
        <Figure name={t('task.price')} note={t('new.priceNote')}>
          <Amount units={BigInt(terms.rate_per_gpu_second) * SECONDS_PER_HOUR} per="h" />
        </Figure>
        <Figure name={t('task.gpus')} note={t('task.limitNote', { time: shownSeconds(terms.max_seconds) })}>
          {terms.gpus === 0
            ? t('task.noGpu')
            : `${terms.gpus.toString()} × ${task.manifest.resources?.gpu_class ?? ''}`}
        </Figure>
        <Figure
          name={t('market.provider')}
          note={task.lease?.simulated === true ? t('simulated') : undefined}
        >
          {task.lease == null ? (
            <span className="unit">{t('task.noProvider')}</span>
          ) : (
            <ProviderOf address={task.lease.provider} />
          )}
        </Figure>
      </dl>
      {progress.percent != null && task.state === 'running' ? (
        <Card title={t('task.progress')}>
          <progress className="meter" max={100} value={progress.percent} aria-label={t('task.progress')} />
          <p className="small soft">
            {progress.percent}% {progress.message ?? ''}{' '}
            {progress.eta_seconds == null ? '' : t('task.eta', { time: shownSeconds(progress.eta_seconds) })}
          </p>
        </Card>
      ) : null}
      <div className="columns columns-wide-left">
        <LiveLog task={task} />
        <div className="stack-l">
          <Card title={t('task.details')}>
            <dl className="facts">
              <dt>{t('task.created')}</dt>
              <dd>
                <Moment ms={task.created_at_ms} />
              </dd>
              <dt>{t('task.runs')}</dt>
              <dd className="mono small">{task.manifest.command.join(' ')}</dd>
              <dt>{t('task.image')}</dt>
              <dd className="mono small">{task.manifest.image}</dd>
              <dt>{t('task.createdTx')}</dt>
              <dd>
                {task.created_tx == null ? t('task.notLocked') : <TransactionLink hash={task.created_tx} />}
              </dd>
              {task.proven_tx == null ? null : (
                <>
                  <dt>{t('task.provenTx')}</dt>
                  <dd>
                    <TransactionLink hash={task.proven_tx} />
                  </dd>
                </>
              )}
              {task.settled_tx == null ? null : (
                <>
                  <dt>{t('task.settledTx')}</dt>
                  <dd>
                    <TransactionLink hash={task.settled_tx} />
                  </dd>
                </>
              )}
            </dl>
            <p className="small soft">{t('task.unit', { symbol: token.symbol })}</p>
          </Card>
          <Stopping task={task} />
          {OVER.has(task.state) || hasReceipt ? (
            <Card title={t('task.again')}>
              <p className="small soft">{t('task.againText')}</p>
              <div>
                <Link to="/tasks/new" search={{ again: task.id }} className="button">
                  {t('task.again')}
                </Link>
              </div>
            </Card>
          ) : null}
        </div>
      </div>
      <Readings task={task} />
      {hasReceipt ? <Receipt task={task} /> : null}
    </>
  );
}

function ProviderOf({ address }: { address: string }) {
  return (
    <Link to="/providers/$address" params={{ address }} className="mono">
      {shortHex(address)}
    </Link>
  );
}

function StateLine({ task }: { task: Task }) {
  const t = useT();
  const now = stepOf(task.state);
  const reached = now === null ? -1 : STEPS.indexOf(now);
  return (
    <ol className="steps" aria-label={t('task.way')}>
      {STEPS.map((step, index) => {
        const done = index < reached || task.state === 'settled';
        const current = index === reached && task.state !== 'settled';
        return (
          <li
            key={step}
            className={`step ${done ? 'step-done' : current ? 'step-now' : ''}`}
            aria-current={current ? 'step' : undefined}
          >
            <span>{t(`task.step.${step}`)}</span>
          </li>
        );
      })}
    </ol>
  );
}

/** In words, why it waits, or where it is. */
function Explanation({ task }: { task: Task }) {
  const t = useT();
  const [open, setOpen] = useState(false);
  const explain = useQuery({
    queryKey: ['explain', task.id, task.state],
    queryFn: () => ask(client.GET('/v1/tasks/{task_id}/explain', { params: { path: { task_id: task.id } } })),
    refetchInterval: OVER.has(task.state) ? false : 5_000,
  });
  return (
    <div className="stack-s">
      <p>
        {t(`task.says.${task.state}` as 'task.says.settled')} {task.failure == null ? '' : task.failure}
      </p>
      {explain.data === undefined ? null : (
        <>
          <div>
            <Button className="button-small" aria-expanded={open} onClick={() => setOpen(!open)}>
              {t('task.explain')}
            </Button>
          </div>
          {open ? (
            <div className="stack-s">
              <p className="soft small">{explain.data.summary}</p>
              {explain.data.offers.length === 0 ? (
                <p className="soft small">{t('new.noOffers')}</p>
              ) : (
                <Table
                  caption={t('new.offersCaption')}
                  rows={explain.data.offers}
                  rowKey={(offer) => offer.provider}
                  columns={[
                    {
                      key: 'provider',
                      head: t('market.provider'),
                      cell: (offer) => <ProviderOf address={offer.provider} />,
                    },
                    {
                      key: 'why',
                      head: t('new.why.head'),
                      cell: (offer) => (offer.eligible ? t('new.can') : (offer.detail ?? offer.reason ?? '')),
                    },
                  ]}
                />
              )}
            </div>
          ) : null}
        </>
      )}
    </div>
  );
}

/** How the chain stands to a locked ceiling, by the chain's own clock; null until it is known. */
function useCeiling(id: string, locked: boolean) {
  const reader = useReader();
  return (
    useQuery({
      queryKey: ['ceiling', id],
      queryFn: async () => {
        if (reader === null) return null;
        const path = { task_id: id };
        const [task, block] = await Promise.all([
          ask(client.GET('/v1/explorer/tasks/{task_id}', { params: { path } })),
          reader.getBlock(),
        ]);
        const cancelled = task.events.some((event) => event.name === 'TaskCancelled');
        const isBack = task.state === 'refunded';
        return { end: task.end, cancelled, isBack, isFree: Number(block.timestamp) > task.end };
      },
      enabled: locked && reader !== null,
      refetchInterval: 3_000,
    }).data ?? null
  );
}

/** Ending it early, and getting a locked ceiling back. */
function Stopping({ task }: { task: Task }) {
  const { t, language } = useLanguage();
  const token = useToken();
  const queries = useQueryClient();
  const deployment = useDeployment().data;
  const [fault, setFault] = useState<string | null>(null);
  const [asked, setAsked] = useState(false);
  const runs = ['ordered', 'funded', 'leased', 'running', 'orphaned'].includes(task.state);
  const locked =
    task.created_tx != null && task.settled_tx == null && !['settled', 'refunded'].includes(task.state);
  const ceiling = useCeiling(task.id, locked);
  if (!runs && !(locked && ['cancelled', 'failed'].includes(task.state))) return null;
  if (ceiling?.isBack === true)
    return (
      <Card title={t('task.getBack')}>
        <Note tone="good">{t('task.gotBack')}</Note>
      </Card>
    );
  const stop = async () => {
    setFault(null);
    try {
      await ask(client.POST('/v1/tasks/{task_id}/cancel', { params: { path: { task_id: task.id } } }));
      await queries.invalidateQueries({ queryKey: ['task', task.id] });
    } catch (refusal) {
      // Over already: what is locked can still be asked back below.
      if (!(refusal instanceof ApiProblem && refusal.status === 409))
        setFault(sentenceOf(refusal, { t, language, token }));
    }
    setAsked(true);
  };
  return (
    <Card title={runs ? t('task.stop') : t('task.getBack')}>
      <p className="small soft">{runs ? t('task.stopText') : t('task.getBackText')}</p>
      {runs && !asked ? (
        <div>
          <Button className="button-bad" onClick={() => void stop()}>
            {t('task.stop')}
          </Button>
        </div>
      ) : null}
      {locked && deployment !== undefined && ceiling !== null && (asked || !runs || ceiling.isFree) ? (
        ceiling.isFree ? (
          <TransactionButton
            tone="plain"
            prepare={() => Promise.resolve(reclaimTask(deployment, termsOf(task.terms)))}
          >
            {t('task.reclaim')}
          </TransactionButton>
        ) : ceiling.cancelled ? (
          <p className="small" data-free-at={ceiling.end}>
            {t('task.freeAt')} <Moment ms={ceiling.end * 1000} />
          </p>
        ) : (
          <TransactionButton
            tone="plain"
            prepare={() => Promise.resolve(cancelTask(deployment, termsOf(task.terms)))}
          >
            {t('task.cancelOnChain')}
          </TransactionButton>
        )
      ) : null}
      {fault === null ? null : <Note tone="bad">{fault}</Note>}
    </Card>
  );
}
