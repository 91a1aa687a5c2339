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
import { useT } from '~/lib/i18n';
import { shownSeconds } from '~/lib/time';
import { useWallet } from '~/lib/wallet/useWallet';
import { Notices } from './Notices';
import { useOverview } from './overview';
import { lastsSeconds, UNDER_WAY } from './spending';
import { useWay } from './steps';

export function HomePage() {
  const t = useT();
  const { address } = useWallet();
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
      <Steps />
      {address === null ? null : (
        <NeedsLogIn why={t('home.why')}>
          <Overview />
        </NeedsLogIn>
      )}
    </Page>
  );
}

/** The way in, in three steps; each is ticked off once the chain shows it, and all go when it was walked. */
function Steps() {
  const t = useT();
  const way = useWay();
  if (way === null || way.ran) return null;
  const steps = [
    {
      done: way.connected,
      title: t('start.connect'),
      text: t('start.connectText'),
      act: <ConnectButton />,
    },
    {
      done: way.deposited,
      title: t('start.deposit'),
      text: t('start.depositText'),
      act: (
        <Link to="/money" className="button">
          {t('start.depositAct')}
        </Link>
      ),
    },
    {
      done: way.ran,
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
  const overview = useOverview();
  const underWay = (tasks.data?.items ?? []).filter((task) => UNDER_WAY.has(task.state));
  const perHour = BigInt(overview.data?.pace_per_hour ?? '0');
  return (
    <Asked query={balances}>
      {(found) => {
        const lasts = lastsSeconds(found.available, perHour);
        return (
          <>
            {overview.data === undefined ? null : <Notices overview={overview.data} />}
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
