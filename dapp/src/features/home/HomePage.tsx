import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { NeedsLogIn } from '~/app/gates';
import { ConnectButton } from '~/app/WalletButton';
import { Asked } from '~/components/asking';
import { Icon } from '~/components/icons';
import { Empty, Figure, Note, Page, TableCard } from '~/components/parts';
import { Amount } from '~/components/values';
import { useBalances } from '~/features/money/balances';
import { TaskTable } from '~/features/tasks/TaskTable';
import { myTasks } from '~/features/tasks/queries';
import { ask, client } from '~/lib/api';
import { useT } from '~/lib/i18n';
import { useSession } from '~/lib/session';
import { shownSeconds } from '~/lib/time';
import { useWallet } from '~/lib/wallet/useWallet';
import { lastsSeconds, UNDER_WAY } from './spending';

export function HomePage() {
  const t = useT();
  const { address } = useWallet();
  const session = useSession();
  return (
    <Page
      title={address === null ? t('home.welcome') : t('home.title')}
      lead={address === null ? t('home.welcomeText') : undefined}
      actions={
        address === null ? undefined : (
          <Link to="/tasks/new" className="button button-main">
            {t('task.new')}
          </Link>
        )
      }
    >
      {address === null || session === null ? <Steps /> : null}
      {address === null ? null : (
        <NeedsLogIn why={t('home.why')}>
          <Overview />
        </NeedsLogIn>
      )}
    </Page>
  );
}

/** The way in, in three steps; each is ticked off as the person takes it. */
function Steps() {
  const t = useT();
  const { address } = useWallet();
  const balances = useBalances().data;
  const funded = balances !== undefined && balances.available > 0n;
  const steps = [
    {
      done: address !== null,
      title: t('start.connect'),
      text: t('start.connectText'),
      act: <ConnectButton />,
    },
    {
      done: funded,
      title: t('start.deposit'),
      text: t('start.depositText'),
      act: (
        <Link to="/money" className="button">
          {t('start.depositAct')}
        </Link>
      ),
    },
    {
      done: false,
      title: t('start.run'),
      text: t('start.runText'),
      act: (
        <Link to="/tasks/new" className="button">
          {t('start.runAct')}
        </Link>
      ),
    },
  ];
  return (
    <section className="card" aria-label={t('start.title')}>
      <div className="row-between">
        <h2>{t('start.title')}</h2>
        <Link to="/market">{t('start.look')}</Link>
      </div>
      <ol className="start">
        {steps.map((step, index) => (
          <li key={step.title} className={step.done ? 'start-step start-done' : 'start-step'}>
            <span className="start-mark" aria-hidden="true">
              {step.done ? <Icon name="done" /> : index + 1}
            </span>
            <h3>
              {step.title}
              {step.done ? <span className="hidden-but-read"> – {t('done')}</span> : null}
            </h3>
            <p className="soft">{step.text}</p>
            {step.done ? null : <div>{step.act}</div>}
          </li>
        ))}
      </ol>
    </section>
  );
}

function Overview() {
  const t = useT();
  const balances = useBalances();
  const { address } = useWallet();
  const tasks = useQuery({
    queryKey: ['tasks', address, 'recent'],
    queryFn: () => myTasks(undefined),
    refetchInterval: 3_000,
  });
  const overview = useQuery({
    queryKey: ['overview', address],
    queryFn: () => ask(client.GET('/v1/overview')),
    refetchInterval: 4_000,
  });
  const underWay = (tasks.data?.items ?? []).filter((task) => UNDER_WAY.has(task.state));
  const perHour = BigInt(overview.data?.pace_per_hour ?? '0');
  return (
    <Asked query={balances}>
      {(found) => {
        const lasts = lastsSeconds(found.available, perHour);
        return (
          <>
            {overview.data?.alerts.includes('index_stopped') === true ? (
              <Note tone="warn">{t('home.indexStopped')}</Note>
            ) : null}
            {lasts !== null && lasts < 24 * 3600 ? (
              <Note tone="warn" title={t('home.endsSoon', { time: shownSeconds(lasts) })}>
                <Link to="/money">{t('start.depositAct')}</Link>
              </Note>
            ) : null}
            <dl className="figures">
              <Figure name={t('money.available')} note={<Link to="/money">{t('home.toMoney')}</Link>}>
                <Amount units={found.available} />
              </Figure>
              <Figure name={t('money.reserved')} note={t('money.reservedNote')}>
                <Amount units={found.locked} />
              </Figure>
              <Figure name={t('home.today')} note={t('home.todayNote')}>
                <Amount
                  units={
                    BigInt(overview.data?.spent_today_calls ?? '0') +
                    BigInt(overview.data?.spent_today_tasks ?? '0')
                  }
                />
              </Figure>
              <Figure name={t('home.burn')} note={t('home.burnNote')}>
                <Amount units={perHour} per="h" />
              </Figure>
              <Figure
                name={t('home.lasts')}
                note={lasts === null ? t('home.lastsIdle') : t('home.lastsNote')}
              >
                {lasts === null ? '–' : shownSeconds(lasts)}
              </Figure>
            </dl>
            <TableCard title={t('home.running')} action={<Link to="/tasks">{t('home.allTasks')}</Link>}>
              <Asked query={tasks}>
                {() =>
                  underWay.length === 0 ? (
                    <Empty
                      title={t('home.nothingRuns')}
                      action={
                        <Link
                          to={found.available === 0n ? '/money' : '/tasks/new'}
                          className="button button-main"
                        >
                          {found.available === 0n ? t('start.depositAct') : t('task.new')}
                        </Link>
                      }
                    >
                      {found.available === 0n ? t('home.nothingRunsNoMoney') : t('home.nothingRunsText')}
                    </Empty>
                  ) : (
                    <TaskTable tasks={underWay} />
                  )
                }
              </Asked>
            </TableCard>
            <TableCard title={t('home.recent')}>
              <Asked query={tasks}>
                {(page) => {
                  const over = page.items.filter((task) => !UNDER_WAY.has(task.state)).slice(0, 5);
                  return over.length === 0 ? (
                    <Empty title={t('home.noneOver')}>{t('home.noneOverText')}</Empty>
                  ) : (
                    <TaskTable tasks={over} />
                  );
                }}
              </Asked>
            </TableCard>
          </>
        );
      }}
    </Asked>
  );
}
