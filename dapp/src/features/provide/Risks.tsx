// What serving brings and what it can cost, in the figures that the chain has.

import { Card } from '~/components/parts';
import { Amount } from '~/components/values';
import { useDeployment } from '~/lib/deployment';
import { useT } from '~/lib/i18n';
import { days } from '~/lib/time';

export function Risks() {
  const t = useT();
  const at = useDeployment().data;
  if (at === undefined) return null;
  return (
    <div className="columns">
      <Card title={t('earn.title')}>
        <ul className="points">
          <li>
            <strong>{t('earn.tasks')}</strong>{' '}
            {t('earn.tasksText', { dispatcher: at.dispatcherBps / 100, protocol: at.protocolFeeBps / 100 })}
          </li>
          <li>
            <strong>{t('earn.calls')}</strong> {t('earn.callsText')}
          </li>
          <li>
            <strong>{t('earn.yield')}</strong> {t('earn.yieldText')}
          </li>
        </ul>
      </Card>
      <Card title={t('risk.title')}>
        <ul className="points">
          <li>
            <strong>
              <Amount units={at.stakeUnit} token={at.stakingToken} /> {t('risk.perCard')}
            </strong>{' '}
            {t('risk.slash')}
          </li>
          <li>
            <strong>{t('risk.jail', { time: days(at.jailSeconds, t) })}</strong> {t('risk.jailText')}
          </li>
          <li>
            <strong>{t('risk.unbonding', { time: days(at.unbondingSeconds, t) })}</strong>{' '}
            {t('risk.unbondingText')}
          </li>
          <li>
            <strong>{t('risk.machine')}</strong> {t('risk.machineText')}
          </li>
        </ul>
      </Card>
    </div>
  );
}
