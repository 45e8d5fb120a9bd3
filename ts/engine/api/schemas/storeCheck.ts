/** Lines of `POST /system/check`: what is wrong, one thing a line, then how much was looked at. */
export interface StoreProblem {
  object: 'database' | 'image' | 'blob' | 'layer';
  /** An image's id, a digest, a chain ID, or the path of the database. */
  id: string;
  /** Names of the images that it belongs to, or their ids. */
  images: string[];
  problem: string;
  /** With `repair`: whether it is whole again, and what was done, or why nothing could be. */
  repaired?: boolean;
  outcome?: string;
}

export interface StoreSummary {
  checked: { blobs: number; layers: number };
  problems: number;
  repaired: number;
}

export type StoreCheckLine = StoreProblem | StoreSummary;
