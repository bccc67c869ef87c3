// The player: the page's own audio element, which streams by Range, with a
// waveform that the server measured. Nothing is fetched before a purpose was
// chosen, and the audio is never fetched to be drawn.
import WaveSurfer from "wavesurfer.js";
import { readPeaks } from "./peaks";

const step = 5;
const speeds = [0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3];
const keysSetting = "earmark.player.keys";

export function start(root: HTMLElement): void {
  new Player(root);
}

class Player {
  private readonly audio: HTMLAudioElement;
  private readonly deck: HTMLElement;
  private readonly seek: HTMLInputElement;
  private readonly clock: HTMLElement;
  private readonly speed: HTMLOutputElement;
  private readonly keys: HTMLInputElement;
  private readonly mutes: HTMLButtonElement[];
  private readonly stated: number;
  private gains: GainNode[] | undefined;
  /** Where to go once the seek that is under way has arrived. */
  private wanted: number | undefined;

  constructor(private readonly root: HTMLElement) {
    this.audio = this.find("audio");
    this.deck = this.find(".deck");
    this.seek = this.find("[data-seek]");
    this.clock = this.find("[data-clock]");
    this.speed = this.find("[data-speed]");
    this.keys = this.find("[data-keys]");
    this.mutes = [...root.querySelectorAll<HTMLButtonElement>("[data-mute]")];
    this.stated = Number(root.dataset.duration || 0) / 1000;
    this.audio.preservesPitch = true;
    this.listen();
    this.show();
    this.audio.hidden = true;
    this.deck.hidden = false;
    void this.draw();
  }

  private find<E extends Element>(selector: string): E {
    const element = this.root.querySelector<E>(selector);
    if (!element) throw new Error(`the player has no ${selector}`);
    return element;
  }

  private listen(): void {
    for (const event of ["timeupdate", "seeking", "durationchange", "play", "pause", "ended", "ratechange"]) {
      this.audio.addEventListener(event, () => this.show());
    }
    this.audio.addEventListener("error", () => {
      this.find<HTMLElement>("[data-failed]").hidden = false;
    });
    this.audio.addEventListener("seeked", () => this.goOn());
    this.seek.addEventListener("input", () => this.to(Number(this.seek.value)));
    for (const button of this.root.querySelectorAll<HTMLElement>("[data-do]")) {
      button.addEventListener("click", () => this.act(button.dataset.do ?? ""));
    }
    this.mutes.forEach((button, channel) => {
      button.addEventListener("click", () => this.mute(channel, button.getAttribute("aria-pressed") !== "true"));
    });
    this.keys.checked = localStorage.getItem(keysSetting) !== "off";
    this.keys.addEventListener("change", () => localStorage.setItem(keysSetting, this.keys.checked ? "on" : "off"));
    document.addEventListener("keydown", (event) => this.key(event));
  }

  /** The keys act only while no field, button or link has the focus. */
  private key(event: KeyboardEvent): void {
    const focused = document.activeElement;
    const free = !focused || focused === document.body || focused.id === "main";
    if (!free || !this.keys.checked || event.ctrlKey || event.altKey || event.metaKey || !this.first()) return;
    const action = { " ": "play", ArrowLeft: "back", ArrowRight: "ahead", "[": "slower", "]": "faster", m: "mute", M: "mute" }[event.key];
    if (!action) return;
    event.preventDefault();
    this.act(action);
  }

  /** Of several players on a page the keys move the one that plays, else the first. */
  private first(): boolean {
    const all = [...document.querySelectorAll<HTMLElement>("[data-player]")];
    const playing = all.find((root) => root.querySelector("audio")?.paused === false);
    return (playing ?? all[0]) === this.root;
  }

  private act(action: string): void {
    switch (action) {
      case "play":
        if (this.audio.paused) void this.audio.play();
        else this.audio.pause();
        break;
      case "back":
        this.to(this.position() - step);
        break;
      case "ahead":
        this.to(this.position() + step);
        break;
      case "slower":
        this.audio.playbackRate = speeds.findLast((s) => s < this.audio.playbackRate) ?? speeds[0]!;
        break;
      case "faster":
        this.audio.playbackRate = speeds.find((s) => s > this.audio.playbackRate) ?? speeds.at(-1)!;
        break;
      case "mute":
        this.muteNext();
        break;
    }
  }

  private length(): number {
    return Number.isFinite(this.audio.duration) && this.audio.duration > 0 ? this.audio.duration : this.stated;
  }

  private position(): number {
    return this.wanted ?? this.audio.currentTime;
  }

  /** One seek at a time: Chromium hangs when it is called back to where an
   *  unfinished seek was going, and a held key would only pile them up. */
  private to(seconds: number): void {
    const target = Math.min(Math.max(seconds, 0), this.length());
    if (this.audio.seeking) this.wanted = target;
    else this.audio.currentTime = target;
    this.show();
  }

  private goOn(): void {
    const target = this.wanted;
    this.wanted = undefined;
    if (target !== undefined) this.audio.currentTime = target;
  }

  private show(): void {
    const now = minutes(this.position());
    const all = minutes(this.length());
    this.clock.textContent = `${now} / ${all}`;
    this.seek.max = String(this.length());
    this.seek.value = String(this.position());
    this.seek.setAttribute("aria-valuetext", (this.root.dataset.of ?? "{0} / {1}").replace("{0}", now).replace("{1}", all));
    this.speed.value = `${new Intl.NumberFormat(document.documentElement.lang).format(this.audio.playbackRate)}×`;
    const play = this.find<HTMLElement>('[data-do="play"]');
    const label = (this.audio.paused ? play.dataset.play : play.dataset.pause) ?? "";
    play.setAttribute("aria-label", label);
    play.title = `${label} (Space)`;
    this.find<HTMLElement>('[data-when="paused"]').hidden = !this.audio.paused;
    this.find<HTMLElement>('[data-when="playing"]').hidden = this.audio.paused;
  }

  /** M goes through: all heard, the first muted, the second muted. */
  private muteNext(): void {
    if (this.mutes.length === 0) {
      this.audio.muted = !this.audio.muted;
      return;
    }
    const muted = this.mutes.findIndex((button) => button.getAttribute("aria-pressed") === "true");
    if (muted >= 0) this.mute(muted, false);
    if (muted + 1 < this.mutes.length) this.mute(muted + 1, true);
  }

  private mute(channel: number, silent: boolean): void {
    this.gains ??= this.split();
    this.gains[channel]!.gain.value = silent ? 0 : 1;
    this.mutes[channel]!.setAttribute("aria-pressed", String(silent));
  }

  /** Each channel goes through a gain of its own, from the first mute on. */
  private split(): GainNode[] {
    const context = new AudioContext();
    const splitter = context.createChannelSplitter(this.mutes.length);
    const merger = context.createChannelMerger(this.mutes.length);
    context.createMediaElementSource(this.audio).connect(splitter);
    const gains = this.mutes.map((_, channel) => {
      const gain = context.createGain();
      splitter.connect(gain, channel);
      gain.connect(merger, 0, channel);
      return gain;
    });
    merger.connect(context.destination);
    return gains;
  }

  private async draw(): Promise<void> {
    const address = this.root.dataset.peaks;
    if (!address) return;
    const answer = await fetch(address);
    if (!answer.ok) return; // what cannot be drawn can still be heard
    const waveform = readPeaks(await answer.arrayBuffer());
    const colours = getComputedStyle(this.root);
    const colour = (name: string) => colours.getPropertyValue(`--wave-${name}`).trim();
    const height = waveform.channels.length > 1 ? 60 : 84;
    const surfer = WaveSurfer.create({
      container: this.find<HTMLElement>("[data-wave]"),
      media: this.audio,
      peaks: waveform.channels,
      duration: this.stated || waveform.duration,
      height,
      barWidth: 2,
      barGap: 1,
      barRadius: 1,
      cursorColor: colours.getPropertyValue("--ink").trim(),
      normalize: true,
      dragToSeek: true,
      cspNonce: this.root.dataset.nonce,
      waveColor: colour("left"),
      progressColor: colour("left-played"),
      splitChannels: waveform.channels.length > 1 ? waveform.channels.map((_, channel) => {
        const side = channel % 2 === 0 ? "left" : "right";
        return { waveColor: colour(side), progressColor: colour(`${side}-played`), height };
      }) : undefined,
    });
    surfer.on("redrawcomplete", () => {
      this.root.dataset.drawn = String(waveform.channels.length);
    });
  }
}

function minutes(seconds: number): string {
  const whole = Math.round(seconds);
  const two = (n: number) => String(n).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const rest = `${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  return hours > 0 ? `${hours}:${rest}` : rest;
}
