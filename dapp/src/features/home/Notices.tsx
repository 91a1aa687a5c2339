// What needs a look, each with the next act.

import { Link } from '@tanstack/react-router';
import type { ReactNode } from 'react';
import { Note } from '~/components/parts';
import { Amount, Moment, shortHex } from '~/components/values';
import type { Schemas } from '~/lib/api';
import { useT } from '~/lib/i18n';
import type { Overview } from './overview';

type Notice = Schemas['Notice'];

export function Notices({ overview }: { overview: Overview }) {
  const t = useT();
  return (
    <>
      {overview.alerts.includes('index_stopped') ? <Note tone="warn">{t('home.indexStopped')}</Note> : null}
      {overview.alerts.includes('nothing_available') ? (
        <Note tone="warn" title={t('notice.nothingAvailable')}>
          <Link to="/money">{t('start.depositAct')}</Link>
        </Note>
      ) : null}
      {(overview.notices ?? []).map((notice) => (
        <NoticeNote key={`${notice.kind} ${notice.subject}`} notice={notice} />
      ))}
    </>
  );
}

function NoticeNote({ notice }: { notice: Notice }) {
  const { title, text, act } = useWords(notice);
  return (
    <div data-notice={notice.kind}>
      <Note tone={notice.kind === 'provider_jailed' ? 'bad' : 'warn'} title={title}>
        {text} {act}
      </Note>
    </div>
  );
}

function useWords(notice: Notice): { title: string; text: ReactNode; act: ReactNode } {
  const t = useT();
  const { subject } = notice;
  const name = (notice.name ?? '') === '' ? shortHex(subject) : (notice.name ?? '');
  const amount = notice.amount == null ? null : <Amount units={BigInt(notice.amount)} />;
  const at = notice.at == null ? null : <Moment ms={notice.at * 1000} />;
  const provider = (
    <Link to="/providers/$address" params={{ address: subject }}>
      {t('notice.lookProvider')}
    </Link>
  );
  const own = notice.name === 'own';
  switch (notice.kind) {
    case 'task_failed':
      return {
        title: t('notice.taskFailed', { name }),
        text: t('notice.taskFailedText'),
        act: (
          <Link to="/tasks/$id" params={{ id: subject }}>
            {t('notice.taskFailedAct')}
          </Link>
        ),
      };
    case 'limit_reached':
      return {
        title: t('notice.limitReached'),
        text: (
          <>
            {t('notice.limitReachedText')} {amount}.
          </>
        ),
        act: <Link to="/costs">{t('notice.limitReachedAct')}</Link>,
      };
    case 'app_paused_funds':
      return {
        title: t('notice.appPaused', { name }),
        text: t('notice.appPausedText'),
        act: (
          <>
            <Link to="/money">{t('start.depositAct')}</Link> · <Link to="/keys">{t('notice.allowMore')}</Link>
          </>
        ),
      };
    case 'app_failing':
      return {
        title: t('notice.appFailing', { name }),
        text: t('notice.appFailingText'),
        act: (
          <Link to="/apps/$id" params={{ id: subject }}>
            {t('notice.lookApp')}
          </Link>
        ),
      };
    case 'channel_closing':
      return {
        title: t('notice.channelClosing', { name: shortHex(subject) }),
        text: (
          <>
            {t('notice.channelClosingText')} {amount} · {at}.
          </>
        ),
        act: (
          <Link to="/explorer" search={{}}>
            {t('notice.lookChain')}
          </Link>
        ),
      };
    case 'provider_jailed':
      return {
        title: own ? t('notice.ownJailed') : t('notice.theirJailed', { name: shortHex(subject) }),
        text: (
          <>
            {own ? t('notice.ownJailedText') : t('notice.theirJailedText')} {at}.
          </>
        ),
        act: provider,
      };
    case 'provider_offline':
      return {
        title: own ? t('notice.ownOffline') : t('notice.theirOffline', { name: shortHex(subject) }),
        text: own ? t('notice.ownOfflineText') : t('notice.theirOfflineText'),
        act: provider,
      };
  }
}
