import type { HoldReason } from '../holds.ts';
import type { ReceiptCode } from '../receipts.ts';

/** Kind of a misdeed. docs/workflow.md explains each kind. */
export type StrikeKind = 'harmful' | 'outlier' | 'bad-payload' | 'disbelief' | 'audit' | 'conflicting';

/** How far the coordinator trusts the person behind a peer. */
export type Standing = 'good' | 'probation' | 'suspended' | 'banned';

/** Kind of a blob that the coordinator found damaged or missing. */
export type DamagedWhat = 'adapter' | 'delta' | 'residual' | 'checkpoint' | 'base' | 'data' | 'update';

/** An event of a job. The coordinator stores events and numbers them in the order in which they became durable. */
export type JobEvent = { sequence: number; at: number; job: string } & JobEventBody;

/** The facts of an event, by its type. */
export type JobEventBody =
  | { type: 'job-created'; name: string; parameters: number; rounds: number }
  /** The job was created, and waits until the job `after` has ended. `afterName` is the name of the job `after`. */
  | { type: 'queued'; after: string; afterName: string }
  /** The job is no longer queued. Either the job that it waited for has ended (`ended`), or the operator resumed it. */
  | { type: 'unqueued'; cause: 'ended' | 'operator' }
  /**
   * The operator changed settings of the job. The new settings apply from the round `fromRound` on. `digest`
   * is the digest of the signed record. `changes` contains the settings that changed, under their keys in the
   * job file.
   */
  | {
      type: 'settings-changed';
      fromRound: number;
      digest: string;
      changes: { key: string; before: number; after: number }[];
      reason: string;
    }
  /**
   * A checkpoint was evaluated on the tasks of the job. `figures` has keys such as
   * `questions.exact_match,none`. `value` is the figure of `metric`, which decides which checkpoint is the
   * best. `metric` and `value` are null if the job names no metric.
   */
  | {
      type: 'tasks-evaluated';
      round: number;
      figures: Record<string, number>;
      metric: string | null;
      value: number | null;
      /**
       * Whether this checkpoint has the best value so far. Of several checkpoints with the same value, the one with the
       * lowest held-out loss is the best.
       */
      isBest: boolean;
      seconds: number;
      /** The node that evaluated the checkpoint. @default the coordinator */
      scorer?: string;
    }
  /** The job won a sweep: it is the only job of the sweep that is left. */
  | { type: 'sweep-won'; sweep: string; heldOutLoss: number | null }
  /** A sweep of the job has ended without a winner. */
  | { type: 'sweep-failed'; sweep: string; reason: string }
  | { type: 'tasks-failed'; round: number; reason: string }
  /** The operator changed how often checkpoints are evaluated on the tasks. */
  | { type: 'tasks-changed'; key: 'tasks.every'; before: number; after: number; reason: string }
  /** A checkpoint continued the prompts of the job. The texts are not in the event, because they are large. */
  | { type: 'sampled'; round: number; seconds: number }
  | { type: 'samples-failed'; round: number; reason: string }
  /** Version 0.1.0 recorded no `reason`. */
  | { type: 'priority-changed'; before: number; after: number; reason?: string }
  /** A node has joined, and is ready to train. */
  | { type: 'peer-joined'; peer: string; name: string; engine: string }
  /**
   * A node takes no work for now, for this reason. `reason` is null when the node takes work. `joined`: the node has just
   * joined, and has no event `peer-joined`.
   */
  | {
      type: 'peer-held';
      peer: string;
      name: string;
      reason: HoldReason | null;
      detail: string;
      joined?: true;
    }
  /**
   * A node went away, or was removed (reasons `revoked` and `banned`). The reason `clock` means that the coordinator
   * refuses the heartbeats of the node, because the clocks of node and coordinator differ too much. `joined`: the node went
   * away after it had joined, but before it was ready, so it has no event `peer-joined`. A removed node may have none either.
   */
  | {
      type: 'peer-lost';
      peer: string;
      name: string;
      reason: 'left' | 'silent' | 'clock' | 'revoked' | 'banned';
      joined?: true;
    }
  /** Two processes use the key of a node. The second process is refused. `since`: time at which it was first seen. */
  | { type: 'duplicate-identity'; peer: string; name: string; since: number }
  | { type: 'round-opened'; round: number; peers: number; preset: string; deadlineMs: number }
  | {
      type: 'update';
      round: number;
      peer: string;
      code: ReceiptCode;
      detail: string;
      bytes: number;
      tokens: number;
      seconds: number;
      lossFirst: number | null;
      lossLast: number | null;
    }
  /**
   * An accepted update did not become part of a checkpoint. The author of the update adds the update back to
   * its error feedback.
   */
  | { type: 'update-undone'; round: number; peer: string; code: ReceiptCode; detail: string }
  | {
      type: 'round-closed';
      round: number;
      updates: number;
      assigned: number;
      /** `operator` means that the operator paused or stopped the job. The round merged the updates that it had. */
      cause: 'complete' | 'quorum' | 'deadline' | 'operator';
    }
  | {
      type: 'checkpoint';
      round: number;
      digest: string;
      heldOutLoss: number | null;
      trainLoss: number | null;
      updates: number;
      tokens: number;
      tokensPerSecond: number;
      updateBytes: number;
      bytesPerParameter: number;
      seconds: number;
      drift: number | null;
    }
  /**
   * The coordinator rolled back: the round ended with a checkpoint that has the adapter of the checkpoint of round `to`
   * again. None of the round's updates was merged.
   */
  | {
      type: 'rolled-back';
      round: number;
      /** Round of the checkpoint that was restored. */
      to: number;
      digest: string;
      /** Held-out loss of the restored checkpoint. */
      heldOutLoss: number | null;
      /** Held-out loss of the checkpoint before the roll-back. */
      lossBefore: number | null;
      reason: string;
    }
  /** The coordinator scored a round's updates. Each update counts in one of `scored`, `unscored` and `harmful`. */
  | {
      type: 'scored';
      round: number;
      scored: number;
      unscored: number;
      /** Number of harmful updates. The merge left them out. */
      harmful: number;
      /** Number of updates without weight, because the belief in their authors is 0. */
      disbelieved: number;
      /** Number of rows on which gradients or losses were computed for the scores. */
      rows: number;
      seconds: number;
      /** The node that computed the figures. @default the coordinator */
      scorer?: string;
    }
  | { type: 'scoring-failed'; round: number; reason: string }
  /**
   * A node did not do work that it had offered, so the coordinator did the work itself. If `isWrong` is true, the node's
   * figures were wrong, and the coordinator sends it no such work until the coordinator restarts.
   */
  | {
      type: 'scorer-failed';
      round: number;
      peer: string;
      /** Figures for scores, or the evaluation of a checkpoint on tasks. */
      work: 'scores' | 'tasks';
      reason: string;
      isWrong: boolean;
    }
  /**
   * A misdeed was recorded. `round` is the update's round. `standing` is the standing of the person who
   * answers for the peer.
   */
  | { type: 'struck'; peer: string; round: number; kind: StrikeKind; standing: Standing }
  /** The peer gets no assignment in the rounds after `round`, up to and including the round `until`. */
  | { type: 'suspended'; peer: string; round: number; until: number; suspensions: number }
  /** `until` is the end of the ban in milliseconds since the Unix epoch, or null if the ban has no end. */
  | {
      type: 'banned';
      peer: string;
      cause: 'proof' | 'strikes' | 'operator';
      reason: string;
      until: number | null;
      /** Whether the ban applies to this job or to all jobs. Events of older versions do not have this field. */
      scope?: 'job' | 'all-jobs';
    }
  | {
      type: 'pardoned';
      peer: string;
      strikes: number;
      bans: number;
      /**
       * `job`: bans from all jobs stay in force. `all-jobs`: the peer has no ban any more. Events of older versions do not
       * have this field.
       */
      scope?: 'job' | 'all-jobs';
    }
  /**
   * Many updates of the round looked like misdeeds: their authors had more than half of the round's earned belief. The
   * cause is probably a fault that many nodes share, such as a broken release, so no author got a strike. `faulty` is
   * the number of these updates.
   */
  | { type: 'shared-fault'; round: number; faulty: number; updates: number }
  /** The coordinator trained the interval of an update again, and compared the results. */
  | {
      type: 'audited';
      /** The round that the update was trained for. */
      round: number;
      peer: string;
      verdict: 'passed' | 'failed';
      /**
       * Cosine of the angle between the update and the change of the adapter that the audit computed, from −1
       * to 1.
       */
      closeness: number;
      /**
       * How much of the second half of the interval's steps the update contains, divided by how much of the
       * first half it contains. It is near 0 if the author stopped after half of the steps.
       */
      balance: number;
      /** Number of rows that the audit trained on in all attempts together. */
      rows: number;
      seconds: number;
    }
  /** An audit ended without a result. This says nothing about the update. */
  | { type: 'audit-dropped'; round: number; peer: string; reason: string }
  | { type: 'null-round'; round: number; reason: string }
  /** The coordinator's device failed during an evaluation. The evaluation restarts with a fallback. */
  | { type: 'evaluation-fallback'; reason: string }
  /** A blob on the coordinator's disk is damaged or missing. `name` is the name of a base file, or a text with the round. */
  | { type: 'blob-damaged'; what: DamagedWhat; name: string; digest: string }
  /** The coordinator has the whole blob again: computed from other blobs (`rebuilt`), or from a node (`fetched`). */
  | {
      type: 'blob-repaired';
      what: DamagedWhat;
      name: string;
      digest: string;
      how: 'rebuilt' | 'fetched';
    }
  /**
   * The coordinator had an old database, and its nodes had later heads that the coordinator had signed. The
   * coordinator continued from the newest of these heads, with a higher term.
   */
  | {
      type: 'caught-up';
      /** Round of the newest checkpoint that the old database had. */
      before: number;
      /** Round of the newest checkpoint after the coordinator caught up. */
      round: number;
      term: number;
      /** Number of checkpoints that the coordinator got from nodes. */
      checkpoints: number;
      /** Number of lost checkpoints that no connected node had. */
      missing: number;
      /**
       * Held-out loss of the newest checkpoint after the coordinator caught up; null if it was not measured.
       */
      heldOutLoss: number | null;
      /** Number of checkpoints of the job after the coordinator caught up, without the initial checkpoint. */
      roundsDone: number;
      /** Phase in which the job continues. */
      phase: 'waiting' | 'paused' | 'finished';
      /** The node that reported the later head. */
      peer: string;
    }
  /** The calendar clock of the coordinator was set forward by `byMs` milliseconds, or back if `byMs` is negative. */
  | { type: 'clock-set'; byMs: number }
  | {
      type: 'paused';
      reason: string;
      /** The first round that has not ended. Events of older versions do not have this field. */
      nextRound?: number;
    }
  | { type: 'resumed' }
  | {
      type: 'finished';
      round: number;
      heldOutLoss: number | null;
      baseLoss: number | null;
      /** Reason with which the job was stopped before its last round, or an empty text; missing if it did all rounds. */
      stopReason?: string;
    };
