// Every page loads this. Pages work without it.
import "htmx.org";

const players = document.querySelectorAll<HTMLElement>("[data-player]");
if (players.length > 0) {
  const { start } = await import("./player");
  players.forEach(start);
}
