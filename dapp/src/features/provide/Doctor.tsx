// What the agent finds on its own machine, as it tells it to the backend; only its provider is shown it.

import { Link } from '@tanstack/react-router';
import { NeedsLogIn } from '~/app/gates';
import { Asked } from '~/components/asking';
import { Icon } from '~/components/icons';
import { Card, Empty, Tag } from '~/components/parts';
import { Moment } from '~/components/values';
import type { Schemas } from '~/lib/api';
import { useT } from '~/lib/i18n';
import { useServing } from './standing';

export function Doctor() {
  const t = useT();
  const serving = useServing();
  return (
    <NeedsLogIn why={t('doctor.why')}>
      <Card
        title={t('doctor.title')}
        action={
          serving.data === undefined ? null : (
            <Tag tone={serving.data.online ? 'good' : 'plain'}>
              {serving.data.online ? t('state.online') : t('state.offline')}
            </Tag>
          )
        }
      >
        <Asked query={serving}>
          {(found) =>
            found.last_seen_ms === null ? (
              <Empty title={t('doctor.none')}>{t('doctor.noneText')}</Empty>
            ) : (
              <Findings serving={found} seen={found.last_seen_ms} />
            )
          }
        </Asked>
      </Card>
    </NeedsLogIn>
  );
}

function Findings({ serving, seen }: { serving: Schemas['ServingBody']; seen: number }) {
  const t = useT();
  const bad = serving.findings.filter((one) => !one.ok).length;
  return (
    <>
      <p className="soft small">
        {t('doctor.seen')} <Moment ms={seen} />
        {serving.checked_at_ms === null ? null : (
          <>
            {' · '}
            {t('doctor.checked')} <Moment ms={serving.checked_at_ms} />
          </>
        )}
        {serving.agent_version === null ? null : ` · ${serving.agent_version}`}
      </p>
      {serving.findings.length === 0 ? <p>{t('doctor.looking')}</p> : null}
      <ul className="checks" aria-label={t('doctor.title')}>
        {serving.findings.map((one) => (
          <li key={one.name} data-finding={one.name} data-ok={String(one.ok)}>
            <span className={one.ok ? (one.fix === '' ? 'is-good' : 'is-open') : 'is-bad'}>
              <Icon name={one.ok ? (one.fix === '' ? 'done' : 'open') : 'wrong'} />
              <span className="hidden-but-read">{one.ok ? t('check.ok') : t('check.wrong')}</span>
            </span>
            <span className="break">
              <strong>{one.name}</strong> {one.found}
              {one.fix === '' ? null : (
                <span className="small soft">
                  {' '}
                  {t('doctor.do')} {one.fix}
                </span>
              )}
            </span>
          </li>
        ))}
      </ul>
      {serving.findings.length > 0 && bad === 0 ? (
        <p>
          {t('doctor.well')} <Link to="/provide/tasks">{t('provide.tasks')}</Link>
        </p>
      ) : null}
    </>
  );
}
