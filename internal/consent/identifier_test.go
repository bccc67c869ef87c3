package consent

import (
	"regexp"
	"testing"
)

func TestNormalisePhone(t *testing.T) {
	t.Parallel()
	const mobile, landline = "+84901234567", "+842838221234"
	for raw, want := range map[string]string{
		"+84901234567":                mobile,
		"84901234567":                 mobile,
		"0901234567":                  mobile,
		"0901 234 567":                mobile,
		"(090) 123-4567":              mobile,
		"0084901234567":               mobile,
		"901234567":                   mobile,
		"+84 (0) 901 234 567":         mobile,
		"84 090 123 4567":             mobile,
		"+84.90.123.4567":             mobile,
		" 0901\u00a0234\u00a0567\t":   mobile,
		"０９０１２３４５６７":                  mobile,
		"\u202a+84 901 234 567\u202c": mobile,
		"0901234567 ext 12":           mobile,
		"0901234567x55":               mobile,
		"sip:0901234567@host":         mobile,
		"SIPS:0901234567@host:5061":   mobile,
		"sip:0901234567:secret@host":  mobile,
		"sip:%2B84901234567@host;a=b": mobile,
		`"Lan" <sip:+84901234567;x=1@pbx.example;user=phone>`: mobile,
		"0901234567@pbx.example":                              mobile,
		"tel:+84-90-123-4567":                                 mobile,
		"tel:901234567;phone-context=+84":                     mobile,
		"tel:+84901234567;ext=12":                             mobile,
		"028 3822 1234":                                       landline,
		"02838221234":                                         landline,
		"+84 28 3822 1234":                                    landline,
		"+1 202-555-0123":                                     "+12025550123",
		"0012025550123":                                       "+12025550123",
		"14155552671":                                         "+14155552671",
		"442071838750":                                        "+442071838750",
		"1900 1234":                                           "+8419001234",

		"":                                "",
		"+":                               "",
		"3201":                            "",
		"sip:3201@pbx":                    "",
		"113":                             "",
		"+84 3201":                        "",
		"anonymous":                       "",
		"sip:anonymous@anonymous.invalid": "",
		"restricted":                      "",
		"Unknown":                         "",
		"sip:lan@host":                    "",
		"sip:192.168.10.200":              "",
		"192.168.10.200":                  "",
		"*98":                             "",
		"#31#0901234567":                  "",
		"0901234567/8":                    "",
		"0901234567 hoặc 0907654321":      "",
		"javascript:0901234567":           "",
		"0901234567\x00":                  "",
		"0901\xff234567":                  "",
		"+849012345678901234567890":       "",
	} {
		e164, ok := NormalisePhone(raw, "VN")
		if e164 != want || ok != (want != "") {
			t.Errorf("%q is %q, %v; not %q", raw, e164, ok, want)
		}
	}
	if e164, ok := NormalisePhone("030 901820", "DE"); e164 != "+4930901820" || !ok {
		t.Errorf("a number of Berlin, in Germany: %q, %v", e164, ok)
	}
	if e164, ok := NormalisePhone("0901234567", ""); ok {
		t.Errorf("a national number of no country: %q", e164)
	}
}

func TestNormaliseEmail(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"Lan@Example.VN":              "lan@example.vn",
		"  lan@example.vn ":           "lan@example.vn",
		"Lan Nguyễn <Lan@example.vn>": "lan@example.vn",
		"mailto:lan@example.vn":       "lan@example.vn",
		"nguyê\u0303n@example.vn":     "nguy\u1ec5n@example.vn",
		"LAN+tag@example.vn":          "lan+tag@example.vn",
		"":                            "", "lan": "", "@example.vn": "", "lan@": "", "lan @example.vn": "", "lan@exa\x00mple.vn": "", "\xff@example.vn": "",
	} {
		email, ok := normaliseEmail(raw)
		if ok != (want != "") || ok && email != want {
			t.Errorf("%q is %q, %v; not %q", raw, email, ok, want)
		}
	}
}

func FuzzNormalisePhone(f *testing.F) {
	for _, seed := range []string{
		"+84901234567", "0901 234 567", "(090) 123-4567", "sip:%2B84901234567@h;x", "tel:901234567;phone-context=+84",
		`"Lan" <sip:0901234567@host>`, "3201", "anonymous", "0901234567 ext 12", "＋８４９０", "+0084", "sip:192.168.10.200",
		"tel:+1-202;phone-context=+84", "0٠٩٠١٢٣٤٥٦٧", "+84+84901234567",
	} {
		f.Add(seed, "VN")
	}
	f.Add("030 901820", "DE")
	e164 := regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)
	f.Fuzz(func(t *testing.T, raw, region string) {
		number, ok := NormalisePhone(raw, region)
		if !ok {
			if number != "" {
				t.Errorf("%q is not ok, but %q", raw, number)
			}
			return
		}
		if !e164.MatchString(number) {
			t.Errorf("%q is %q, which is not E.164", raw, number)
		}
		for _, anywhere := range []string{"VN", "US", ""} {
			if again, ok := NormalisePhone(number, anywhere); again != number || !ok {
				t.Errorf("%q is %q, and that is %q, %v in %q", raw, number, again, ok, anywhere)
			}
		}
	})
}
