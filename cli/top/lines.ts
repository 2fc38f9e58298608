/** Appearance of a line. */
export type Tone = 'title' | 'green' | 'yellow' | 'red' | 'dim';

/** A line of a frame, without control characters. */
export interface FrameLine {
  readonly text: string;
  readonly tone?: Tone;
}

/** The content of a view: lines that always stay, and a list that can be longer than the screen. */
export interface ViewLines {
  readonly fixed: readonly FrameLine[];
  readonly list: readonly FrameLine[];
}
