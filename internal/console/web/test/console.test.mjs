// People's stories, in Chromium, against the service whose address is in
// EARMARK_CONSOLE; TestInABrowser starts it.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const setting = JSON.parse(process.env.EARMARK_CONSOLE);
const axe = await readFile(new URL("../node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
const patience = 15_000;

let browser;
before(async () => {
  browser = await chromium.launch({
    executablePath: setting.chromium,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required"],
  });
});
after(() => browser?.close());

/** Opens a browser window in which nothing may go wrong unseen. */
async function open(t, options = {}) {
  const context = await browser.newContext({ locale: "vi-VN", viewport: { width: 1360, height: 900 }, ...options });
  context.setDefaultTimeout(patience);
  const page = await context.newPage();
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(`error: ${error.message}`));
  page.on("console", (message) => {
    // Chromium reports a form that is answered with 4xx; the story looks at the page itself.
    if (message.type() === "error" && !/status of 4\d\d/.test(message.text())) wrong.push(`console: ${message.text()}`);
  });
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (url.protocol.startsWith("http") && url.origin !== setting.url) wrong.push(`request to ${url.origin}`);
  });
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
  });
  t.after(async () => {
    await context.close();
    assert.deepEqual(wrong, []);
  });
  return page;
}

async function signIn(page, login, password = setting.password) {
  await page.goto(`${setting.url}/signin`);
  await page.fill("[name=login]", login);
  await page.fill("[name=password]", password);
  await page.click("button.primary");
  await page.waitForURL((url) => url.pathname !== "/signin");
}

/** Nothing serious for those who use assistive technology, and nothing beyond the edge. */
async function sound(page) {
  await page.waitForLoadState("load");
  await page.evaluate(axe);
  // Preloading copies styles into elements of axe's own, which the policy rightly refuses.
  const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"], preload: false }));
  const serious = found.violations
    .filter((v) => v.impact === "serious" || v.impact === "critical")
    .map((v) => `${v.id}: ${v.nodes.map((n) => n.target.join(" ")).join(", ")}`);
  assert.deepEqual(serious, [], page.url());
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.ok(overflow <= 0, `${page.url()} is ${overflow} px too wide`);
  const small = await page.evaluate(() => [...document.querySelectorAll("button, input, select, summary, .button, nav a")]
    .filter((e) => e.offsetParent && !["checkbox", "radio", "hidden"].includes(e.type))
    .map((e) => [e, e.getBoundingClientRect()])
    .filter(([, box]) => box.width < 24 || box.height < 24)
    .map(([e, box]) => `${e.outerHTML.slice(0, 80)} ${box.width}×${box.height}`));
  assert.deepEqual(small, [], page.url());
}

async function listen(page) {
  await page.goto(`${setting.url}/interactions/${setting.reviewed}`);
  await page.check("[name=purpose][value=quality_assurance]", { force: true });
  await page.click("[name=open][value=listen]");
  await page.waitForSelector("[data-drawn]");
}

const currentTime = (page) => page.evaluate(() => document.querySelector("audio").currentTime);
/** Waits until the sound stands at a time, in seconds, and is there. */
const at = (page, seconds, tolerance = 0.1) => page.waitForFunction(([seconds, tolerance]) => {
  const audio = document.querySelector("audio");
  return !audio.seeking && Math.abs(audio.currentTime - seconds) <= tolerance;
}, [seconds, tolerance]);
const loaded = (page) => page.waitForFunction(() => document.querySelector("audio").readyState >= 1);

test("a reviewer changes the one-time password", async (t) => {
  const page = await open(t);
  await sound(await page.goto(`${setting.url}/`).then(() => page));
  await signIn(page, "lan", setting.oneTime);
  assert.equal(new URL(page.url()).pathname, "/password");
  await sound(page);
  await page.fill("[name=old_password]", setting.oneTime);
  await page.fill("[name=password]", setting.password);
  await page.fill("[name=again]", setting.password);
  await page.click("button.primary");
  await page.waitForURL(/signin/);
  await signIn(page, "lan");
  assert.equal(await page.locator("html").getAttribute("lang"), "vi");
  await sound(page);
});

test("searching by a number in another form, without reloading", async (t) => {
  const page = await open(t);
  await signIn(page, "lan");
  await page.goto(`${setting.url}/interactions`);
  assert.equal(await page.locator("tbody tr").count(), 2);
  await page.evaluate(() => { window.stayed = true; });
  await page.fill("[name=customer]", "+84 901 234 567");
  await page.fill("[name=q]", "hoa don");
  await page.keyboard.press("Enter");
  await page.waitForURL(/customer=/);
  assert.equal(await page.locator("tbody tr").count(), 2);
  await page.fill("[name=customer]", "0999 888 777");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#results .empty");
  assert.equal(await page.evaluate(() => window.stayed), true);
  await sound(page);
  await page.goBack();
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 2);
});

test("listening for a purpose, by keyboard", async (t) => {
  const page = await open(t);
  const fetched = [];
  page.on("request", (request) => fetched.push(request.url()));
  await signIn(page, "lan");
  await page.goto(`${setting.url}/interactions/${setting.reviewed}`);
  assert.ok(!fetched.some((url) => url.includes("/recordings/")), "something was fetched before a purpose was chosen");
  await sound(page);
  await listen(page);
  assert.equal(await page.locator("[data-player]").getAttribute("data-drawn"), "2", "a waveform for each channel");
  const ink = await page.evaluate(() => {
    const canvases = [...document.querySelector("[data-wave] > div").shadowRoot.querySelectorAll("canvas")];
    return canvases.filter((c) => c.getContext("2d").getImageData(0, 0, c.width, c.height).data.some((v) => v > 0)).length;
  });
  assert.ok(ink >= 2, `${ink} canvases are drawn on`);
  assert.ok(await page.evaluate(() => document.querySelector("audio").paused), "it plays by itself");
  await sound(page);

  await loaded(page);
  await page.locator("#main").focus();
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowLeft");
  await at(page, 5);
  assert.equal(await page.locator("[data-seek]").getAttribute("aria-valuetext"), "00:05 trên 00:30");
  await page.keyboard.press("]");
  assert.equal(await page.evaluate(() => document.querySelector("audio").playbackRate), 1.25);
  assert.ok(await page.evaluate(() => document.querySelector("audio").preservesPitch));
  await page.keyboard.press(" ");
  await page.waitForFunction(() => document.querySelector("audio").currentTime > 5.3);
  await page.keyboard.press(" ");
  assert.ok(await page.evaluate(() => document.querySelector("audio").paused));
  await page.keyboard.press("m");
  assert.equal(await page.locator("[data-mute='0']").getAttribute("aria-pressed"), "true");

  await page.locator("[data-seek]").focus();
  await page.keyboard.press("Home");
  await at(page, 0);
  await page.locator("#f-comment").focus();
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("]");
  assert.equal(await currentTime(page), 0, "the keys act in a field");
  const box = await page.locator("[data-wave]").boundingBox();
  await page.mouse.click(box.x + box.width / 2, box.y + box.height / 4);
  await at(page, 15, 1);
  const ranges = fetched.filter((url) => url.includes("/audio?"));
  assert.ok(ranges.every((url) => url.includes("purpose=quality_assurance") && url.includes("listening=true")));
});

test("scoring what is assigned", async (t) => {
  const page = await open(t);
  await signIn(page, "lan");
  await page.click(".card .list a");
  await page.waitForSelector(".scorecard");
  for (const question of await page.locator(".question").all()) {
    const options = question.locator(".options input");
    if (await options.count()) await options.first().check();
    else if (await question.locator("input.short").count()) await question.locator("input.short").fill("4");
  }
  await page.fill("[name=comment]", "Rõ ràng, lịch sự.");
  await page.click(".scorecard button.primary");
  await page.waitForSelector(".said");
  await sound(page);

  const boss = await open(t, { colorScheme: "dark" });
  await signIn(boss, "boss");
  await sound(boss);
  await boss.click(".card .list a");
  await sound(boss);
  await boss.click("button.primary");
  await boss.waitForSelector(".said");
});

test("a purge by two people, to its certificate", async (t) => {
  const first = await open(t, { locale: "en-GB" });
  await signIn(first, "first");
  await first.goto(`${setting.url}/purges/new`);
  await sound(first);
  await first.fill("[name=agent]", "3202");
  await first.fill("[name=reason]", "Beyond its time");
  await first.click("button.primary");
  await first.waitForSelector("[name=override]");
  await sound(first);
  await first.check("[name=override]");
  await first.click("button.primary");
  await first.waitForURL(/purges\/[0-9a-f-]{36}/);
  assert.equal(await first.locator("form[action$='/approve']").count(), 0, "approval is offered to who asked");
  await sound(first);

  const second = await open(t, { locale: "en-GB", colorScheme: "dark" });
  await signIn(second, "second");
  await sound(second);
  await second.click("a[href^='/purges/']");
  for (const box of await second.locator(".decision input[type=checkbox]").all()) await box.check();
  await sound(second);
  await second.click("button.danger");
  // Nobody reloads: the page asks for the progress itself.
  await second.click("a[href$='/certificate']");
  await second.waitForSelector(".paper");
  await sound(second);
});

test("both languages, and the choice is kept", async (t) => {
  const page = await open(t);
  await signIn(page, "boss");
  await page.goto(`${setting.url}/interactions?queue=billing`);
  await page.click(".languages [value=en]");
  await page.waitForSelector("html[lang=en]");
  assert.match(page.url(), /queue=billing/);
  assert.equal(await page.textContent("h1"), "Interactions");
  await page.goto(`${setting.url}/evaluations`);
  assert.equal(await page.locator("html").getAttribute("lang"), "en");
});

for (const colorScheme of ["light", "dark"]) {
  test(`every page of the officers, the administrator and the supervisor, ${colorScheme}, on a phone`, async (t) => {
    for (const [login, paths] of Object.entries({
      first: ["/", "/interactions", `/interactions/${setting.reviewed}`, "/policies", "/holds", "/holds/new", "/purges", "/purges/new"],
      admin: ["/people", "/nowhere"],
      boss: ["/assignments", "/evaluations"],
    })) {
      const page = await open(t, { viewport: { width: 390, height: 844 }, colorScheme });
      await signIn(page, login);
      for (const path of paths) {
        await page.goto(setting.url + path);
        await sound(page);
      }
    }
    const page = await open(t, { viewport: { width: 390, height: 844 }, colorScheme });
    await signIn(page, "lan");
    await listen(page);
    await sound(page);
  });
}

test("without script, the browser's own player plays", async (t) => {
  const page = await open(t, { javaScriptEnabled: false });
  await signIn(page, "lan");
  await page.goto(`${setting.url}/interactions/${setting.reviewed}`);
  assert.equal(await page.locator("audio").count(), 0);
  await page.check("[name=purpose][value=training]", { force: true });
  await page.click("[name=open][value=listen]");
  assert.ok(await page.locator("audio").isVisible());
  assert.ok(!(await page.locator(".deck").isVisible()));
});
