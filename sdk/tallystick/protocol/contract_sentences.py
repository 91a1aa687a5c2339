"""What each custom error of the contracts means, for people, in English and in Chinese.

The one source of these sentences: Python reads the English ones (`contract_errors`), the dApp both,
by the file generated from here. `{0}` is the error's first value. A unit behind the colon says how
it is drawn for people:

    {0:token}    an amount of the payment token, in its smallest unit
    {0:stake}    an amount of the staking token, in its smallest unit
    {0:time}     unix seconds
    {0:time_ms}  unix milliseconds
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

__all__ = ["CONTRACT_SENTENCES", "UNITS", "Sentence", "without_units"]

UNITS: Final = ("token", "stake", "time", "time_ms")


class Sentence(NamedTuple):
    en: str
    zh: str


def without_units(sentence: str) -> str:
    """As `str.format` takes it."""
    return re.sub(r"\{(\d):\w+\}", r"{\1}", sentence.replace(":time_ms}", "} ms"))


CONTRACT_SENTENCES: Final[Mapping[str, Sentence]] = {
    # ComputeEscrow
    "OnlyMarket": Sentence(
        "only the market {0} may do this, and {1} tried",
        "只有任务市场合约 {0} 可以执行此操作，而发起者是 {1}",
    ),
    "InsufficientAvailable": Sentence(
        "the escrow account needs {0:token} available and has {1:token}: deposit the rest",
        "托管账户需要可用余额 {0:token}，现有 {1:token}：请充值补足",
    ),
    "InsufficientLocked": Sentence(
        "{0:token} should be locked in the escrow account and {1:token} are",
        "托管账户应锁定 {0:token}，实际锁定 {1:token}",
    ),
    "DepositNotExact": Sentence(
        "the deposit should have moved {0:token} and moved {1:token}: tokens that take a fee or change balances are refused",
        "充值应到账 {0:token}，实际到账 {1:token}：不接受会扣转账费或自行改变余额的代币",
    ),
    "InvalidRecipient": Sentence(
        "{0} cannot receive this: name another account", "{0} 不能收款：请改用其他账户"
    ),
    "OnlyPayoutAddress": Sentence(
        "only the present payout address {0} may do this, and {1} tried",
        "只有当前的收款地址 {0} 可以执行此操作，而发起者是 {1}",
    ),
    "NoCredit": Sentence(
        "{0} has no credit to withdraw: it comes when a task settles or a voucher is redeemed",
        "{0} 没有可提取的收入：任务结算或凭单兑付之后才会有",
    ),
    "NoFees": Sentence(
        "{0} has no fees to share: they come when credit is withdrawn",
        "{0} 没有可分配的手续费：提取收入时才会产生",
    ),
    "ZeroAmount": Sentence("the amount is zero: give a larger one", "金额为零：请输入大于零的金额"),
    "ZeroAddress": Sentence("an address is zero: name an account", "地址为零：请指定一个账户"),
    "AmountTooLarge": Sentence(
        "amounts of this token would pass 2^128: it cannot be used here",
        "该代币的金额会超过 2^128：不能在这里使用",
    ),
    "SharesAboveCharge": Sentence(
        "the shares {1:token} are more than the charge {0:token}",
        "分成 {1:token} 超过了费用 {0:token}",
    ),
    "PoolShareTooHigh": Sentence(
        "the pools' part of the fees may be {0} basis points at most, and is {1}",
        "手续费中归质押池的部分最多为 {0} 个基点，实际为 {1}",
    ),
    "ClosePeriodOutOfRange": Sentence(
        "the close period must be {0} to {1} seconds, and is {2}",
        "关闭等待期必须在 {0} 到 {1} 秒之间，实际为 {2} 秒",
    ),
    "ChannelWithoutSigner": Sentence(
        "the channel names no signer: nobody could claim from it",
        "该通道没有指定签名者：没有人能从中收款",
    ),
    "OnlyPayer": Sentence(
        "only the channel's payer {0} may do this, and {1} tried",
        "只有该通道的付款方 {0} 可以执行此操作，而发起者是 {1}",
    ),
    "OnlySigner": Sentence(
        "only the allowance's signer {0} may do this, and {1} tried",
        "只有该授权的签名者 {0} 可以执行此操作，而发起者是 {1}",
    ),
    "InsufficientUnclaimed": Sentence(
        "{0:token} should be unclaimed in the channel and {1:token} is: ask for less",
        "通道中应有 {0:token} 未被领取，实际为 {1:token}：请减少金额",
    ),
    "NothingUnclaimed": Sentence(
        "the channel {0} holds nothing that is not claimed", "通道 {0} 中的资金已全部被领取"
    ),
    "CloseAlreadyRequested": Sentence(
        "the channel can be closed from {0:time} on: wait, or take it back",
        "该通道从 {0:time} 起可以关闭：请等待，或撤回关闭申请",
    ),
    "CloseNotRequested": Sentence(
        "no close of the channel {0} is requested: the payer asks for it first",
        "通道 {0} 尚未申请关闭：须先由付款方提出申请",
    ),
    "ClosePeriodNotOver": Sentence(
        "the channel can be closed from {0:time} on, and it is {1:time}",
        "该通道从 {0:time} 起可以关闭，现在是 {1:time}",
    ),
    "InvalidAllowanceSignature": Sentence(
        "the allowance should be signed by {0}, the signature is of {1}: sign it for this chain and deployment",
        "该授权应由 {0} 签名，而签名属于 {1}：请针对本链和本部署重新签名",
    ),
    "AllowanceExpired": Sentence(
        "the allowance was good until {0:time}, and it is {1:time}: ask for another",
        "该授权的有效期到 {0:time} 为止，现在是 {1:time}：请申请新的授权",
    ),
    "AllowanceExceeded": Sentence(
        "the allowance is for {0:token} in all, and this makes it {1:token}: ask for another",
        "该授权总额为 {0:token}，加上这一笔将达到 {1:token}：请申请新的授权",
    ),
    "AllowanceWasRevoked": Sentence(
        "the payer revoked the allowance {0}: ask for another",
        "付款方已撤销授权 {0}：请申请新的授权",
    ),
    "ProtocolFeeTooHigh": Sentence(
        "the protocol fee may be {0} basis points at most, and is {1}",
        "协议手续费最多为 {0} 个基点，实际为 {1}",
    ),
    "ReentrancyGuardReentrantCall": Sentence(
        "the contract was called again from inside its own call", "合约在自身调用过程中被再次调用"
    ),
    "SafeERC20FailedOperation": Sentence(
        "the token {0} refused the transfer: check balance and allowance",
        "代币 {0} 拒绝了转账：请检查余额和授权额度",
    ),
    # TaskMarket
    "FieldTooWide": Sentence(
        "a field of the message is wider than its type: encode it again",
        "消息中有字段超出了其类型的范围：请重新编码",
    ),
    "InvalidTermsSignature": Sentence(
        "the terms should be signed by {0}, the signature is of {1}: sign them for this chain and deployment",
        "任务条款应由 {0} 签名，而签名属于 {1}：请针对本链和本部署重新签名",
    ),
    "InvalidAcceptanceSignature": Sentence(
        "the acceptance should be signed by {0}, the signature is of {1}: sign charge and receipt as the market computes them",
        "验收应由 {0} 签名，而签名属于 {1}：请按市场合约算出的费用和收据签名",
    ),
    "InvalidReceiptSignature": Sentence(
        "the receipt should be signed by {0} or its operator key, the signature is of {1}: check fence, charge and key",
        "收据应由 {0} 或其操作密钥签名，而签名属于 {1}：请检查派单序号、费用和密钥",
    ),
    "InvalidAssignmentSignature": Sentence(
        "the assignment should be signed by the dispatcher {0}, the signature is of {1}: check provider, fence and lease",
        "派单应由调度方 {0} 签名，而签名属于 {1}：请检查提供者、派单序号和租约",
    ),
    "NonceAlreadyUsed": Sentence(
        "{0} has used the nonce {1}: the task exists, is settled or was refunded; a new one needs another nonce",
        "{0} 已用过随机数 {1}：该任务已存在、已结算或已退款；新任务须使用新的随机数",
    ),
    "WrongStatus": Sentence(
        "the task should be in status {0} and is in {1} (0 none, 1 open, 2 proven, 3 disputed)",
        "任务应处于状态 {0}，实际为 {1}（0 无、1 进行中、2 已证明、3 争议中）",
    ),
    "OnlyConsumer": Sentence(
        "only the consumer {0} may do this, and {1} tried",
        "只有消费者 {0} 可以执行此操作，而发起者是 {1}",
    ),
    "SharesTooHigh": Sentence(
        "dispatcher and royalty may take {0} basis points together, and take {1}",
        "调度方分成与版税合计最多 {0} 个基点，实际为 {1}",
    ),
    "ShareWithoutPayee": Sentence(
        "a share of {0} basis points names nobody to get it: name the payee, or no share",
        "{0} 个基点的分成没有指定收款人：请指定收款人，或不设分成",
    ),
    "ChallengeWindowOutOfRange": Sentence(
        "the challenge window must be {0} to {1} seconds, and is {2}",
        "质疑期必须在 {0} 到 {1} 秒之间，实际为 {2} 秒",
    ),
    "VerificationNeedsCourt": Sentence(
        "verification {0} needs a court and this deployment has none: ask 0",
        "核验方式 {0} 需要仲裁合约，而本部署没有：请填 0",
    ),
    "InvalidVerification": Sentence(
        "verification {0} is no rule and share: rule 1 or 2, plus 256 times a share of at most 10000 basis points, or 0 for none",
        "核验方式 {0} 不是有效的规则与比例：规则为 1 或 2，再加上 256 乘以不超过 10000 基点的比例；不核验则填 0",
    ),
    "NotDisputable": Sentence(
        "the terms ask for no verification: the result cannot be disputed",
        "任务条款没有要求核验：其结果不能提出争议",
    ),
    "ChallengeWindowOver": Sentence(
        "the challenge window was open until {0:time}, and it is {1:time}: the proof stands",
        "质疑期到 {0:time} 为止，现在是 {1:time}：证明成立",
    ),
    "BondTooLarge": Sentence(
        "the bond {1:token} would pass the largest amount {0:token}: this charge cannot be disputed",
        "保证金 {1:token} 将超过上限 {0:token}：这笔费用不能提出争议",
    ),
    "CourtOver": Sentence(
        "the court had until {0:time}, and it is {1:time}: end the dispute at the market",
        "仲裁时间到 {0:time} 为止，现在是 {1:time}：请在任务市场合约结束该争议",
    ),
    "CourtNotOver": Sentence(
        "the court has until {0:time}, and it is {1:time}: wait",
        "仲裁时间到 {0:time} 才结束，现在是 {1:time}：请等待",
    ),
    "DeadlinePassed": Sentence(
        "proofs were taken until {0:time}, and it is {1:time}: the ceiling can be reclaimed",
        "证明的提交截止到 {0:time}，现在是 {1:time}：可以收回锁定的上限金额",
    ),
    "NotEndedYet": Sentence(
        "the task runs until {0:time}, and it is {1:time}: wait, or cancel it",
        "任务运行到 {0:time} 为止，现在是 {1:time}：请等待，或取消任务",
    ),
    "AlreadyCancelled": Sentence("the task was cancelled at {0:time}", "任务已于 {0:time} 取消"),
    "EndedBeforeStart": Sentence(
        "the receipt starts at {0:time_ms} and ends before that, at {1:time_ms}",
        "收据的开始时间是 {0:time_ms}，而结束时间更早，为 {1:time_ms}",
    ),
    "EndedInFuture": Sentence(
        "the receipt ends at {1:time_ms} and the chain's time is {0:time_ms}: wait for the next block, and check the clock",
        "收据的结束时间是 {1:time_ms}，而链上时间是 {0:time_ms}：请等待下一个区块，并检查时钟",
    ),
    "RanTooLong": Sentence(
        "the terms allow {0} ms and the receipt shows {1} ms",
        "条款允许 {0} 毫秒，而收据显示 {1} 毫秒",
    ),
    "TooMuchGpuTime": Sentence(
        "the run can have used {0} GPU-ms and the receipt shows {1}",
        "本次运行最多可用 {0} GPU 毫秒，而收据显示 {1}",
    ),
    "GpuSetMissing": Sentence(
        "{0} GPUs are named without the root of their ids",
        "声明了 {0} 块 GPU，却没有其编号的根哈希",
    ),
    "TooManyCalls": Sentence(
        "a task proven without acceptance counts {0} calls at most, the receipt {1}",
        "未经验收的任务最多计 {0} 次调用，而收据为 {1} 次",
    ),
    "StartedBeforeLease": Sentence(
        "the lease begins at {0:time_ms} and the run began before that, at {1:time_ms}",
        "租约从 {0:time_ms} 开始，而运行更早，始于 {1:time_ms}",
    ),
    "LeaseOver": Sentence(
        "the lease was good until {0:time}, and it is {1:time}: ask the consumer for an acceptance",
        "租约有效期到 {0:time} 为止，现在是 {1:time}：请向消费者索取验收签名",
    ),
    "LeaseAfterCancel": Sentence(
        "the task was cancelled at {0:time}, before the lease began at {1:time}",
        "任务已于 {0:time} 取消，早于租约开始的 {1:time}",
    ),
    "StakeTooLow": Sentence(
        "the provider needs {0:stake} of own bonded stake and has {1:stake}: stake more, or use fewer GPUs",
        "提供者需要自有质押 {0:stake}，现有 {1:stake}：请追加质押，或减少 GPU 数量",
    ),
    "ChallengeWindowOpen": Sentence(
        "the challenge window is open until {0:time}, and it is {1:time}: wait, or bring the consumer's acceptance",
        "质疑期到 {0:time} 为止，现在是 {1:time}：请等待，或提交消费者的验收签名",
    ),
    "WrongProof": Sentence(
        "the proof on chain has the digest {0}, the one shown has {1}: show what TaskProven told",
        "链上证明的摘要是 {0}，出示的是 {1}：请出示 TaskProven 事件中的内容",
    ),
    "NotEnoughGas": Sentence(
        "{0} gas must be left at this step and {1} is: send with a higher gas limit",
        "这一步需要剩余 {0} gas，实际为 {1}：请提高 gas 上限后重新发送",
    ),
    "WrongNeighbour": Sentence(
        "the neighbour contract should be {0} and is {1}: deploy again",
        "关联合约应为 {0}，实际为 {1}：请重新部署",
    ),
    "UnbondingTooShort": Sentence(
        "unbonding must take {0} seconds at least, and takes {1}",
        "解除质押至少需要 {0} 秒，实际为 {1} 秒",
    ),
    "WindowsOutOfOrder": Sentence(
        "the shortest challenge window {0} is longer than the longest {1}",
        "最短质疑期 {0} 秒大于最长质疑期 {1} 秒",
    ),
    # ProviderStaking
    "InsufficientBonded": Sentence(
        "{0:stake} should be bonded and {1:stake} is: ask for less",
        "应有质押 {0:stake}，实际为 {1:stake}：请减少金额",
    ),
    "StakeBacksGpus": Sentence(
        "the registered GPUs and the seats need {0:stake} of stake and {1:stake} would be left: register fewer GPUs first, or leave seats",
        "已登记的 GPU 和席位需要质押 {0:stake}，操作后只剩 {1:stake}：请先减少登记的 GPU，或退出席位",
    ),
    "UnknownRequest": Sentence(
        "{0} has no unbonding request {1}, or it was withdrawn",
        "{0} 没有编号为 {1} 的解除质押申请，或已经提取",
    ),
    "UnbondingNotOver": Sentence(
        "the stake can be withdrawn from {0:time} on, and it is {1:time}",
        "质押从 {0:time} 起可以提取，现在是 {1:time}",
    ),
    "KeyAlreadyBound": Sentence(
        "the key {0} is bound to {1} for ever: make another key",
        "密钥 {0} 已永久绑定到 {1}：请另建一个密钥",
    ),
    "KeyNotBound": Sentence("the key {0} is bound to nobody", "密钥 {0} 没有绑定到任何账户"),
    "KeyAlreadyRetired": Sentence(
        "the key {0} was retired at {1:time}", "密钥 {0} 已于 {1:time} 停用"
    ),
    "KeyIsProvider": Sentence(
        "{0} is a provider itself: bind a key that is nothing else",
        "{0} 本身就是提供者：请绑定一个没有其他用途的密钥",
    ),
    "OnlyProvider": Sentence(
        "only the provider {0} may do this, and {1} tried",
        "只有提供者 {0} 可以执行此操作，而发起者是 {1}",
    ),
    "InvalidKeySignature": Sentence(
        "the key {0} must agree with its own signature, and this one is of {1}",
        "密钥 {0} 必须用自己的签名表示同意，而这个签名属于 {1}",
    ),
    # AppRegistry
    "UnknownApp": Sentence(
        "nothing is published under {0}: check the app id, the chain and the deployment",
        "{0} 之下没有发布任何应用：请检查应用编号、链和部署",
    ),
    "UnknownVersion": Sentence(
        "the app has the versions 1 to {0}, not {1}", "该应用有版本 1 到 {0}，没有版本 {1}"
    ),
    "AppExists": Sentence(
        "{0} is published already: add a version to it, or take another salt",
        "{0} 已经发布：请为它添加版本，或换一个盐值",
    ),
    "OnlyPublisher": Sentence(
        "only the publisher {0} may do this, and {1} tried",
        "只有发布者 {0} 可以执行此操作，而发起者是 {1}",
    ),
    "AppIsPermanent": Sentence(
        "the app {0} was renounced: nobody can change it any more",
        "应用 {0} 的所有权已放弃：任何人都不能再改变它",
    ),
    "AppIsRetired": Sentence(
        "the app retires at {0:time}: no price from then on, and no change since that was announced (asked for {1:time})",
        "该应用于 {0:time} 下线：此后没有价格，公告之后也不能再更改（所查时间为 {1:time}）",
    ),
    "NotPublishedYet": Sentence(
        "this version has a price from {0:time} on, not at {1:time}",
        "该版本从 {0:time} 起才有价格，在 {1:time} 还没有",
    ),
    "PriceChangePending": Sentence(
        "an announced price takes effect at {0:time}, and it is {1:time}: renounce after it",
        "已公告的价格将于 {0:time} 生效，现在是 {1:time}：请在此之后再放弃所有权",
    ),
    "DiscountOutOfRange": Sentence(
        "a discount takes 1 to {0} basis points, not {1}",
        "折扣必须在 1 到 {0} 个基点之间，不能是 {1}",
    ),
    "DiscountTooSoon": Sentence(
        "the discount can begin at {0:time} and not at {1:time}: choose a time to come",
        "折扣最早可从 {0:time} 开始，不能从 {1:time} 开始：请选择将来的时间",
    ),
    "DiscountEndsBeforeStart": Sentence(
        "the discount begins at {0:time} and would end before that, at {1:time}",
        "折扣从 {0:time} 开始，却会在更早的 {1:time} 结束",
    ),
    "DiscountTooLate": Sentence(
        "the discount must end by {0:time} and would end at {1:time}: give unix seconds",
        "折扣必须在 {0:time} 之前结束，所填为 {1:time}：请使用 Unix 秒",
    ),
    "DiscountReduced": Sentence(
        "{0} basis points off from {1:time} to {2:time} are announced: offer no less, no later and no shorter, or wait for its end",
        "已公告从 {1:time} 到 {2:time} 优惠 {0} 个基点：新折扣不得更少、更晚或更短，或等它结束",
    ),
    "URILengthOutOfRange": Sentence(
        "the manifest's URI must have {0} to {1} bytes, and has {2}",
        "清单的 URI 必须有 {0} 到 {1} 个字节，实际为 {2} 个",
    ),
    "NoticeOutOfRange": Sentence(
        "the notice must be {0} to {1} seconds, and is {2}",
        "公告期必须在 {0} 到 {1} 秒之间，实际为 {2} 秒",
    ),
    "ZeroDigest": Sentence(
        "a digest is zero: name image and manifest by their digests",
        "摘要为零：请填写镜像和清单的摘要",
    ),
    "DelegationTooSmall": Sentence(
        "a delegation is {0:stake} at least, and this leaves {1:stake}: delegate more, or take all of it out",
        "委托至少为 {0:stake}，操作后只剩 {1:stake}：请增加委托，或全部取出",
    ),
    "InsufficientShares": Sentence(
        "{0} shares are asked for and {1} are there: ask for fewer",
        "要求 {0} 份额，现有 {1}：请减少数量",
    ),
    "PotSpent": Sentence(
        "slashes left next to nothing behind very many shares: delegate to another provider, or ask again when those shares have left",
        "罚没之后，大量份额背后几乎没有剩余：请委托给其他提供者，或等这些份额退出后再试",
    ),
    "SharesBelowMinimum": Sentence(
        "at least {0} shares were asked for and {1} come of it: the pool was slashed meanwhile, look at it again",
        "至少要求 {0} 份额，实际得到 {1}：质押池在此期间被罚没，请重新查看",
    ),
    "AmountBelowMinimum": Sentence(
        "at least {0:stake} was asked for and {1:stake} comes of it: the pool was slashed meanwhile, look at it again",
        "至少要求 {0:stake}，实际得到 {1:stake}：质押池在此期间被罚没，请重新查看",
    ),
    "CommissionTooHigh": Sentence(
        "the commission may be {0} basis points at most, and is {1}",
        "佣金最多为 {0} 个基点，实际为 {1}",
    ),
    "NoPool": Sentence("nobody has delegated to {0}", "没有人委托给 {0}"),
    "NothingToWithdraw": Sentence("there is nothing for {0} to withdraw", "{0} 没有可提取的金额"),
    "AlreadyPunished": Sentence("the offence {0} was punished already", "违规 {0} 已经受过处罚"),
    "ProviderJailed": Sentence(
        "{0} is jailed and can lift that from {1:time} on", "{0} 正在停职，从 {1:time} 起可以解除"
    ),
    "NotJailed": Sentence("{0} is not jailed", "{0} 没有被停职"),
    "JailNotOver": Sentence(
        "the jail can be lifted from {0:time} on, and it is {1:time}",
        "停职从 {0:time} 起可以解除，现在是 {1:time}",
    ),
    "OnlyCourt": Sentence(
        "only the court {0} may do this, and {1} tried",
        "只有仲裁合约 {0} 可以执行此操作，而发起者是 {1}",
    ),
    "OnlyEscrow": Sentence(
        "only the escrow {0} may do this, and {1} tried",
        "只有托管合约 {0} 可以执行此操作，而发起者是 {1}",
    ),
    # DisputeCourt
    "DifferentProviders": Sentence(
        "the receipts are of two providers, {0} and {1}: show two of one",
        "两份收据属于不同的提供者 {0} 和 {1}：请出示同一提供者的两份收据",
    ),
    "DifferentRoutes": Sentence(
        "the receipts are of two routes, {0} and {1}: show two of one",
        "两份收据属于不同的路径 {0} 和 {1}：请出示同一路径的两份收据",
    ),
    "SameRoute": Sentence(
        "both receipts are of the route {0}: show two routes that used one GPU",
        "两份收据都属于路径 {0}：请出示使用了同一块 GPU 的两条路径",
    ),
    "DifferentPlaces": Sentence(
        "the receipts have seq {0} and {1}: show two for one place, or two neighbours of a channel",
        "两份收据的序号是 {0} 和 {1}：请出示同一位置的两份，或一条通道中相邻的两份",
    ),
    "SameReceipt": Sentence(
        "it is twice the receipt {0}: that is no fault", "两次出示的都是收据 {0}：这不是违规"
    ),
    "WrongChannel": Sentence(
        "the fields are the channel {0} and the receipt is of {1}: give its payer, signer and salt",
        "所填字段对应通道 {0}，而收据属于 {1}：请提供其付款方、签名者和盐值",
    ),
    "NotNeighbours": Sentence(
        "the later receipt should have seq {0} and has {1}", "后一份收据的序号应为 {0}，实际为 {1}"
    ),
    "ReceiptsFollow": Sentence(
        "the receipt {1} follows {0} as it should: that is no fault",
        "收据 {1} 正确地接在 {0} 之后：这不是违规",
    ),
    "NotAnswerable": Sentence(
        "{0} does not answer for signatures of {1}: the receipt is not signed by it, or by a key it retired too long ago",
        "{0} 不为 {1} 的签名负责：收据不是由它签名，或签名密钥早已停用",
    ),
    "ReceiptTooOld": Sentence(
        "receipts that ended before {0:time_ms} are void, and this one ended at {1:time_ms}",
        "在 {0:time_ms} 之前结束的收据已失效，而这一份结束于 {1:time_ms}",
    ),
    "GpuNotInSet": Sentence(
        "the GPU {1} is not proven to be in the set {0}: check its id and the proof",
        "未能证明 GPU {1} 属于集合 {0}：请检查其编号和证明",
    ),
    "OverlapTooShort": Sentence(
        "the receipts must overlap by {0} ms and do by {1} ms: that is no fault",
        "两份收据必须重叠 {0} 毫秒，实际重叠 {1} 毫秒：这不是违规",
    ),
    "SeatAlreadyTaken": Sentence("{0} has a seat already", "{0} 已经有席位"),
    "NoSeat": Sentence("{0} has no seat", "{0} 没有席位"),
    "SeatAlreadyListed": Sentence("the seat of {0} is listed already", "{0} 的席位已经在名单上"),
    "SeatIsLeaving": Sentence(
        "the seat of {0} is on its way out: free it first", "{0} 的席位正在退出：请先释放它"
    ),
    "SeatNotLeaving": Sentence(
        "the seat of {0} stays: leave it first", "{0} 的席位没有申请退出：请先申请退出"
    ),
    "TooSoon": Sentence(
        "this can be done from {0:time} on, and it is {1:time}: wait",
        "此操作从 {0:time} 起才可执行，现在是 {1:time}：请等待",
    ),
    "SeatJailed": Sentence(
        "{0} is jailed and gets no seat: lift the jail first",
        "{0} 正在停职，不能获得席位：请先解除停职",
    ),
    "TooFewSeats": Sentence(
        "{0} seats are needed and {1} can be drawn: the proof stands",
        "需要 {0} 个席位，可抽取的有 {1} 个：证明成立",
    ),
    "UnknownDispute": Sentence(
        "there is no dispute of the task {0}, or it is concluded",
        "任务 {0} 没有争议，或争议已经结束",
    ),
    "WrongState": Sentence(
        "the dispute should be in state {0} and is in {1} (0 none, 1 drawing, 2 sworn)",
        "争议应处于状态 {0}，实际为 {1}（0 无、1 抽签中、2 已就任）",
    ),
    "DrawBlockAhead": Sentence(
        "the draw follows from block {0}, and this is {1}: wait for the next",
        "抽签结果取决于区块 {0}，现在是 {1}：请等待下一个区块",
    ),
    "DrawTooLate": Sentence(
        "the last draw that could be heard was at {0:time}, and it is {1:time}: conclude",
        "最后一次有效抽签的时间是 {0:time}，现在是 {1:time}：请结束该争议",
    ),
    "DrawStillPossible": Sentence(
        "checkers can be drawn until {0:time}, and it is {1:time}: draw",
        "到 {0:time} 为止都可以抽取核验员，现在是 {1:time}：请抽签",
    ),
    "NotDrawn": Sentence(
        "{1} is no checker of the task {0} in this round", "{1} 不是任务 {0} 本轮的核验员"
    ),
    "OnlyChecker": Sentence(
        "only the checker {0} or its operator key may do this, and {1} tried",
        "只有核验员 {0} 或其操作密钥可以执行此操作，而发起者是 {1}",
    ),
    "EmptyCommitment": Sentence(
        "the commitment is zero: hash the vote with a salt", "承诺值为零：请把投票与盐值一起哈希"
    ),
    "AlreadyCommitted": Sentence(
        "{0} has committed already: reveal that vote", "{0} 已经提交承诺：请揭示那一票"
    ),
    "CommitOver": Sentence(
        "votes were committed until {0:time}, and it is {1:time}",
        "投票承诺截止到 {0:time}，现在是 {1:time}",
    ),
    "CommitNotOver": Sentence(
        "votes are committed until {0:time}, and it is {1:time}: reveal after that",
        "投票承诺到 {0:time} 才截止，现在是 {1:time}：请在此之后揭示",
    ),
    "RevealOver": Sentence(
        "votes were revealed until {0:time}, and it is {1:time}",
        "投票揭示截止到 {0:time}，现在是 {1:time}",
    ),
    "RevealNotOver": Sentence(
        "votes are revealed until {0:time}, and it is {1:time}: wait, or have all revealed",
        "投票揭示到 {0:time} 才截止，现在是 {1:time}：请等待，或让所有人完成揭示",
    ),
    "WrongReveal": Sentence(
        "the vote has the commitment {1} and {0} was committed: reveal that vote with its salt",
        "这一票的承诺值是 {1}，而当初提交的是 {0}：请用原来的盐值揭示当初那一票",
    ),
    "NoVote": Sentence(
        "a vote must be right, wrong, no input or no result",
        "投票必须是：正确、错误、没有输入或没有结果",
    ),
    "CourtTooShort": Sentence(
        "the market must give the court {0} seconds at least, and gives {1}",
        "市场合约必须给仲裁至少 {0} 秒，实际为 {1} 秒",
    ),
    "CheckpointUnorderedInsertion": Sentence(
        "the chain's clock went backwards", "链上时钟发生了倒退"
    ),
    # TallyToken
    "ERC20InsufficientAllowance": Sentence(
        "{0} may spend {1:token} of the tokens and needs {2:token}: approve it first",
        "{0} 可动用 {1:token}，而需要 {2:token}：请先授权",
    ),
    "ERC20InsufficientBalance": Sentence(
        "{0} has {1:token} tokens and needs {2:token}: get the rest first",
        "{0} 有 {1:token}，而需要 {2:token}：请先补足",
    ),
    "ERC20InvalidApprover": Sentence("{0} cannot approve", "{0} 不能授权"),
    "ERC20InvalidReceiver": Sentence("{0} cannot receive tokens", "{0} 不能接收代币"),
    "ERC20InvalidSender": Sentence("{0} cannot send tokens", "{0} 不能发送代币"),
    "ERC20InvalidSpender": Sentence("{0} cannot spend tokens", "{0} 不能动用代币"),
    "ERC2612ExpiredSignature": Sentence(
        "the permit was good until {0:time}: sign another",
        "该许可的有效期到 {0:time} 为止：请重新签名",
    ),
    "ERC2612InvalidSigner": Sentence(
        "the permit should be signed by {1}, the signature is of {0}",
        "该许可应由 {1} 签名，而签名属于 {0}",
    ),
    "ERC3009InvalidAuthorizationTime": Sentence(
        "the authorization is good from {0:time} to {1:time}: wait, or sign another",
        "该授权在 {0:time} 到 {1:time} 之间有效：请等待，或重新签名",
    ),
    "ERC3009InvalidSignature": Sentence(
        "the authorization is not signed by the account it takes from", "该授权不是由付款账户签名的"
    ),
    "ERC3009UsedAuthorization": Sentence(
        "the authorization of {0} with nonce {1} was used or withdrawn",
        "{0} 的随机数为 {1} 的授权已被使用或撤回",
    ),
    "InvalidAccountNonce": Sentence(
        "the permit of {0} needs the nonce {1}: sign another",
        "{0} 的许可需要随机数 {1}：请重新签名",
    ),
    "ECDSAInvalidSignature": Sentence("the signature belongs to no key", "该签名不属于任何密钥"),
    "ECDSAInvalidSignatureLength": Sentence(
        "the signature has {0} bytes and should have 65", "签名有 {0} 个字节，应为 65 个"
    ),
    "ECDSAInvalidSignatureS": Sentence(
        "the signature's s {0} is in the upper half: sign with low s",
        "签名的 s 值 {0} 位于上半区：请使用低 s 值签名",
    ),
    "InvalidShortString": Sentence(
        "a text stored in the token is malformed", "代币中保存的文字格式有误"
    ),
    "StringTooLong": Sentence("the text {0} is too long", "文字 {0} 太长"),
    "SafeCastOverflowedUintDowncast": Sentence(
        "{1} does not fit {0} bits", "{1} 超出 {0} 位能表示的范围"
    ),
    "SupplyTooLarge": Sentence(
        "the supply may be {0:token} at most, and is {1:token}",
        "发行量最多为 {0:token}，实际为 {1:token}",
    ),
    "ZeroSupply": Sentence("the supply is zero", "发行量为零"),
}
