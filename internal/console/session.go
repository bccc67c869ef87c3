package console

import (
	"errors"
	"net/http"

	"earmark/internal/access"
	"earmark/internal/invalid"
)

type signInPage struct {
	Form form
	Back string
}

func (c *Console) signInForm(v *visit) error {
	if v.known {
		return v.see(ownPath(v.Query("back")))
	}
	return v.show("signin", "signin.title", signInPage{Back: ownPath(v.Query("back"))})
}

func (c *Console) signIn(v *visit) error {
	back := ownPath(v.field("back"))
	// The password is not trimmed: its owner may have meant the space.
	token, _, mustChange, err := c.Access.SignIn(v.Request.Context(), v.field("login"), v.PostForm("password"))
	if err != nil {
		return v.refuseSignIn(back, err)
	}
	v.setCookie(SessionCookie, token, int(access.SessionLength.Seconds()))
	if mustChange {
		return v.see("/password")
	}
	return v.see(back)
}

func (v *visit) refuseSignIn(back string, err error) error {
	f := form{Values: map[string][]string{"login": {v.field("login")}}}
	switch {
	case errors.Is(err, access.ErrUnauthenticated):
		f.Refused = "wrong_password"
	case errors.Is(err, access.ErrTooManyAttempts):
		f.Refused = "too_many_attempts"
	default:
		return err
	}
	status := http.StatusUnauthorized
	if f.Refused == "too_many_attempts" {
		status = http.StatusTooManyRequests
	}
	return v.render(status, "signin", "signin.title", signInPage{f, back})
}

func (c *Console) signOut(v *visit) error {
	if cookie, err := v.Request.Cookie(SessionCookie); err == nil {
		if err := c.Access.SignOut(v.Request.Context(), cookie.Value); err != nil {
			return err
		}
	}
	v.setCookie(SessionCookie, "", -1)
	return v.done("/signin", "signed_out")
}

func (c *Console) passwordForm(v *visit) error {
	return v.show("password", "password.title", form{})
}

func (c *Console) setPassword(v *visit) error {
	old, password := v.PostForm("old_password"), v.PostForm("password")
	var err error
	if password != v.PostForm("again") {
		err = invalid.New("body.again", "the same password again")
	} else {
		err = c.Access.SetPassword(v.Request.Context(), v.actor, v.actor.ID, old, password)
	}
	if err != nil {
		var f form
		status, err := f.refuse(err)
		if err != nil {
			return err
		}
		return v.render(status, "password", "password.title", f)
	}
	v.setCookie(SessionCookie, "", -1)
	return v.done("/signin", "password_changed")
}

// setCookie keeps a cookie from scripts, from other sites' forms and, where the
// page came by https, from the open network. A negative age removes it.
func (v *visit) setCookie(name, value string, seconds int) {
	http.SetCookie(v.Writer, &http.Cookie{ //nolint:gosec // over plain http, as on loopback, a Secure cookie would be lost
		Name: name, Value: value, Path: "/", MaxAge: seconds,
		HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: v.secure(),
	})
}

func (v *visit) secure() bool {
	return v.Request.TLS != nil || v.GetHeader("X-Forwarded-Proto") == "https"
}
