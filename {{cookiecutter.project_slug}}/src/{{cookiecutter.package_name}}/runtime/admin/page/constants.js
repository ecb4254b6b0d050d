// Numbers that this page and the admin process have in common; a test compares them.

export const SECONDS = 900; // of the history
export const WINDOW = 5; // seconds that latencies, and the large rates, are of
export const POINT_INTERVAL = 5; // seconds between two points of a worker
export const MAX_EVENTS = 128;
