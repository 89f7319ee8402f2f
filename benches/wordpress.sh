#!/bin/bash
# What an admin would do by hand to put WordPress on a machine whose packages are installed, with the same outcome (code
# apart from data, a PHP service of its own in a sandbox, HTTPS with a self-signed certificate, a timer for cron, all of it
# answering): the yardstick for the first apply. Run inside a machine: wordpress.sh URL
set -euo pipefail
url=$1 name=hand domain=hand.example.org
php=$(php -r 'echo PHP_MAJOR_VERSION.".".PHP_MINOR_VERSION;')
useradd --system --home-dir /srv/$name --shell /usr/sbin/nologin $name
usermod -aG $name www-data
mkdir -p /srv/$name; cd /srv/$name
curl -sSf "$url" -o wp.tar; mkdir site data sessions; tar -xf wp.tar --strip-components=1 -C site; rm wp.tar
# An upgrade replaces the code; what people bring stays.
mv site/wp-content site/wp-content.dist; cp -r site/wp-content.dist data/wp-content; ln -s ../data/wp-content site/wp-content
mariadb -e "create database $name character set utf8mb4; create user $name@localhost identified via unix_socket; grant all on $name.* to $name@localhost"
salts=$(for key in AUTH_KEY SECURE_AUTH_KEY LOGGED_IN_KEY NONCE_KEY AUTH_SALT SECURE_AUTH_SALT LOGGED_IN_SALT NONCE_SALT; do
  echo "define('$key', '$(openssl rand -hex 32)');"; done)
cat >site/wp-config.php <<P
<?php
define('DB_NAME', '$name'); define('DB_USER', '$name'); define('DB_PASSWORD', ''); define('DB_HOST', 'localhost:/run/mysqld/mysqld.sock');
define('DB_CHARSET', 'utf8mb4'); define('DISABLE_WP_CRON', true); define('WP_HTTP_BLOCK_EXTERNAL', true);
$salts
\$table_prefix = 'wp_';
if (!defined('ABSPATH')) define('ABSPATH', __DIR__ . '/');
require_once ABSPATH . 'wp-settings.php';
P
chown -R root:$name site; chown -R $name:$name data sessions; chmod 640 site/wp-config.php
chown root:$name /srv/$name; chmod 750 /srv/$name data; chmod 700 sessions
cat >/srv/$name/fpm.conf <<P
[global]
daemonize = no
error_log = syslog
systemd_interval = 0
[app]
listen = /run/$name/php.sock
listen.mode = 0660
pm = ondemand
pm.max_children = 10
php_admin_value[session.save_path] = /srv/$name/sessions
P
cat >/etc/systemd/system/$name-php.service <<U
[Unit]
After=mariadb.service
[Service]
Type=notify
ExecStart=/usr/sbin/php-fpm$php --nodaemonize --fpm-config /srv/$name/fpm.conf
User=$name
Group=$name
RuntimeDirectory=$name
RuntimeDirectoryMode=0750
Restart=on-failure
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateUsers=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictNamespaces=yes
SystemCallFilter=@system-service
ReadWritePaths=/srv/$name/data /srv/$name/sessions
[Install]
WantedBy=multi-user.target
U
mkdir -m 700 /srv/$name/tls
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=$domain" -addext "subjectAltName=DNS:$domain" \
  -keyout /srv/$name/tls/key.pem -out /srv/$name/tls/chain.pem 2>/dev/null
runuser -u $name -- php -r '$_SERVER["HTTP_HOST"]="'$domain'"; define("WP_INSTALLING",true); require "/srv/'$name'/site/wp-load.php"; require ABSPATH."wp-admin/includes/upgrade.php"; function wp_mail(){} wp_install("By hand","admin","a@example.org",true,"","secret-'$RANDOM'");' 2>/dev/null || true
cat >/etc/systemd/system/$name-cron.service <<U
[Service]
Type=oneshot
User=$name
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths=/srv/$name/data /srv/$name/sessions
ExecStart=/usr/bin/php /srv/$name/site/wp-cron.php
U
printf '[Timer]\nOnCalendar=*:0/5\n[Install]\nWantedBy=timers.target\n' >/etc/systemd/system/$name-cron.timer
systemctl daemon-reload; systemctl enable -q --now $name-cron.timer $name-php.service
cat >/etc/nginx/sites-enabled/$name.conf <<N
server { listen 80; listen 443 ssl; server_name $domain; root /srv/$name/site; index index.php;
  ssl_certificate /srv/$name/tls/chain.pem; ssl_certificate_key /srv/$name/tls/key.pem;
  location / { try_files \$uri \$uri/ /index.php?\$args; }
  location ~ \.php\$ { include fastcgi.conf; fastcgi_pass unix:/run/$name/php.sock; } }
N
nginx -t -q; systemctl reload nginx
sync
for page in '/ </html>' '/wp-login.php loginform' '/?rest_route=/ "namespaces"'; do
  curl -sSf --resolve $domain:80:127.0.0.1 "http://$domain${page% *}" -o /run/page; grep -q "${page#* }" /run/page
done
